"""From stored runs and published numbers to tables, figures and the book."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]  # the checkout: notebooks run with it as working directory
