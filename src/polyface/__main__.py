"""``python -m polyface``."""

from polyface.cli import main

if __name__ == "__main__":
    main()
