"""``python -m jindopy``."""

from jindopy.cli.main import main

main(prog_name="jindopy")
