"""A group of commands that knows the likely slips."""

from __future__ import annotations

import click


class Commands(click.Group):
    """A group that lists its commands in the order of use and suggests the nearest one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by name."""
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"expected a command, found {name!r}; {self.advice(name)}", ctx)

    def advice(self, name: str) -> str:
        """What to write instead of an unknown command."""
        import difflib

        close = difflib.get_close_matches(name, self.commands, 1)
        return f"did you mean {close[0]}?" if close else f"one of: {', '.join(self.commands)}"
