"""Figures and tables for papers: SVG and PDF by matplotlib, LaTeX."""
