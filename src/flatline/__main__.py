"""The ``flatline`` command, and ``python -m flatline``.

Loading the commands takes a while, in which a Ctrl-C is to end them as quietly as it does later.
"""

try:
    from flatline.launch.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None  # the status of a command that is interrupted later

if __name__ == "__main__":
    main()
