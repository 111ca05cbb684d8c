"""Words that the pre-training captions use."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_CLOTHES = {
    "jeans": "trousers",
    "shorts": "trousers",
    "athletic shoe": "sneaker",
    "mans shoe": "sneaker",
    "flat shoe": "sneaker",
    "womans boots": "ankle boot",
    "hiking boot": "ankle boot",
    "handbag": "bag",
    "purse": "bag",
    "pouch": "bag",
    "school satchel": "bag",
    "coat": "coat",
    "lab coat": "coat",
    "dress": "dress",
    "kimono": "dress",
    "sari": "dress",
    "womans sandal": "sandal",
    "thong sandal": "sandal",
    "high-heeled shoe": "sandal",
    "womans clothes": "shirt",
    "safety vest": "pullover",
    "necktie": "shirt",
    "t-shirt": "t-shirt",
}


def clothing_word(emoji: str) -> str:
    """Return the word of the task ``fashion`` for an emoji's concept, or the emoji's own name if it has none."""
    return _CLOTHES.get(emoji, emoji)
