"""``python -m kart_core``: the same as ``kart-core``."""

from kart_core.cli import main

if __name__ == "__main__":
    main()
