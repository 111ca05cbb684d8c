"""Figures of the page, to be hovered and zoomed; the page gives them the colours of its light or dark scheme."""
