"""``millrace-sandbox``: the local stack, also from a checkout that is not set up (yet)."""

from __future__ import annotations


def main() -> None:
    """Run the command with what is installed."""
    try:
        from millrace_sandbox.cli import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("millrace_sandbox"):
            raise
        from millrace_sandbox import bare

        bare.main(error.name)
    else:
        run()


if __name__ == "__main__":
    main()
