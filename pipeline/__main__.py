"""`python -m pipeline` is `vidparts`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
