"""Options that take one value and are given twice: an error, for the first would not count."""

from __future__ import annotations

from typing import Any

import typer


def refuse_repeated_options(command: Any) -> None:
    """Let a command and those below it refuse an option that is repeated in vain."""
    for below in getattr(command, "commands", {}).values():
        refuse_repeated_options(below)
    make_parser = command.make_parser

    def make_checking_parser(context: typer.Context) -> Any:
        parser = make_parser(context)
        parse = parser.parse_args

        def parse_and_check(args: list[str]) -> Any:
            values, rest, order = parse(args)
            _check(order)
            return values, rest, order

        parser.parse_args = parse_and_check
        return parser

    command.make_parser = make_checking_parser


def _check(given: list[Any]) -> None:
    """Raise BadParameter for an option with one value that is given several times."""
    for option in given:
        one_value = option.param_type_name == "option" and not (option.multiple or option.is_flag)
        if one_value and given.count(option) > 1:
            raise typer.BadParameter(
                f"it takes one value, and is given {given.count(option)} times.",
                param_hint=f"'{option.opts[0]}'",
            )
