"""``python -m livestain``: the command, where its script is not on the path."""

from livestain.cli import main

if __name__ == "__main__":
    main()
