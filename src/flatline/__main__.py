"""``python -m flatline``: the same as the ``flatline`` command."""

from flatline.launch.cli import main

if __name__ == "__main__":
    main()
