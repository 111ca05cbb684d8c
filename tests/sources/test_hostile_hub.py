"""A hub that is hostile at HTTP level: redirects, lengths that are wrong, names that lead out of the cache."""

import hashlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.sources.hub import Listing, fetch_file, fetch_verified, list_repository
from tests.hub import REPOSITORY, Hub, private_hub

CONTENT = b"secret" * 100
NAME = "weights.safetensors"
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "secret").write_bytes(CONTENT)
    with private_hub(tmp_path, monkeypatch) as hub:
        hub.publish(REPOSITORY, {NAME: CONTENT})
        yield hub


def redirect(location: str, status: int = 302) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", location.replace("PATH", request.path))
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def body(sent: bytes, **headers: str) -> Answer:
    """The metadata of a file, and a body with headers of its own."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        request.send_header("X-Repo-Commit", "0" * 40)
        length = {"Content-Length": str(len(sent))} if "Transfer_Encoding" not in headers else {}
        for name, value in (length | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(sent)
        request.close_connection = True

    return answer


ODD: dict[str, Answer] = {
    "to a file": redirect("file://SECRET"),
    "to a file, for ever": redirect("file://SECRET", 308),
    "to another scheme": redirect("gopher://127.0.0.1/"),
    "to itself": redirect("PATH"),
    "to nowhere": redirect("http://127.0.0.1:1/"),
    "to nothing": redirect(""),
    "to no address": redirect("http://[::/"),
    "longer than it is said to be": body(CONTENT * 9, X_Linked_Size=str(len(CONTENT))),
    "shorter than it is said to be": body(CONTENT[:-1], Content_Length=str(len(CONTENT))),
    "a negative length": body(CONTENT, Content_Length="-1"),
    "a length that is no number": body(CONTENT, Content_Length="many"),
    "a huge length": body(CONTENT, Content_Length="9" * 30),
    "broken chunks": body(b"ZZ\r\n" + CONTENT, Transfer_Encoding="chunked"),
    "not the compression that it is said to be": body(CONTENT, Content_Encoding="gzip"),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_an_odd_answer_is_one_line_and_leaves_nothing(answer: Answer, hub: Hub, tmp_path: Path) -> None:
    listing = list_repository(REPOSITORY, "main", "dataset")

    def answer_with_path(request: BaseHTTPRequestHandler) -> None:
        send = request.send_header

        def send_header(name: str, value: str) -> None:
            send(name, value.replace("SECRET", str(tmp_path / "secret")))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(request, "send_header", send_header)
            answer(request)

    hub.odd = answer_with_path
    with pytest.raises(UserError) as error:
        fetch_verified(REPOSITORY, NAME, listing, "dataset")
    assert str(error.value).startswith(f"{REPOSITORY}/{NAME} at {listing.commit[:12]}: ")
    assert "\n" not in str(error.value)
    assert [path for path in (tmp_path / "cache").rglob(NAME) if path.exists()] == []
    hub.odd = None
    assert fetch_verified(REPOSITORY, NAME, listing, "dataset")[0].read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../../../../outside.parquet", "data/../../../../outside.parquet", "a\0b", "a" * 300])
def test_a_name_that_leads_elsewhere_is_refused(name: str, hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPOSITORY, {name: CONTENT})
    listing = Listing(hub.commit(REPOSITORY), {})
    with pytest.raises(UserError):
        fetch_file(REPOSITORY, name, listing.commit, "dataset")
    assert [path for path in tmp_path.rglob("outside*") if "cache" not in path.parts] == []
