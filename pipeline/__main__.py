"""`vidparts` and `python -m pipeline`: the command line; a fault also says which installed releases weren't tested."""


def main() -> None:
    """Run the command line."""
    try:
        # In here, because importing a package may be what fails.
        from pipeline.cli import main as run

        run()
    except Exception as error:
        from pipeline.releases import untested

        if note := untested():
            error.add_note(note)
        raise


if __name__ == "__main__":
    main()
