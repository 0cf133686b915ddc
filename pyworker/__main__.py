"""``python -m pyworker`` is the ``pyworker`` command."""

from pyworker.cli.main import main

if __name__ == "__main__":
    main()
