"""How Sphinx builds the site of these pages: `make docs`."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx

import modelkit as mk
import modelkit.types
from modelkit.cli import build_parser

project = "modelkit"
author = copyright = "the modelkit contributors"  # noqa: A001 - Sphinx's name for it
version = release = mk.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["recipes/**"]
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the tests execute notebooks; the site shows what they hold
smartquotes_action = "D"  # dashes only: "auto" is a value, not speech
default_role = "code"

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "exclude-members": "after_fork",  # the process calls it
}
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"  # a whole name does not fit beside the text
python_maximum_signature_line_length = 88
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
# What other libraries document, what only type checkers import, and parts of values that nobody needs to name.
# tests/unit/test_documentation.py says that each type of a public name is public.
OTHERS = (
    "np|numpy|pd|collections|concurrent|contextlib|datetime|enum|functools|os|pathlib|types|typing"
)
UNNAMED = "Blueprint|DeviceName|Metric|MetricsData|Openable|Resource|Rule"
nitpick_ignore_regex = [("py:.*", rf"({OTHERS}|modelkit)\..+|{UNNAMED}")]

html_theme = "pydata_sphinx_theme"
html_title = "modelkit"
html_static_path = ["_static"]
html_css_files = ["modelkit.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "navbar_align": "left",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}


SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Examples?):|.*::")


def fenced(lines: list[str]) -> Iterator[str]:
    """Lines whose indented paragraphs are blocks of code: those of no section, and below a blank line."""
    code = section = False
    before = ""
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            code = False
            section = SECTION.fullmatch(line) is not None
        elif indented and not before and not code and not section:
            code = True
            yield from (".. code-block:: python", "")
        yield line
        before = line.strip()


COLON = "\N{RATIO}"


def as_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings have Markdown's single backticks, which reST wants doubled, and on one line.

    Of a property, napoleon takes what is before a colon in the first line for its type: it sees none.
    """
    if what in ("attribute", "property"):
        lines[0] = lines[0].replace(": ", COLON)
    lines[:] = [*fenced(lines)]
    text = re.sub(
        r"(?<![:`])`([^`]+)`(?![`_])",
        lambda found: "``" + " ".join(found[1].split()) + "``",
        "\n".join(lines),
    )
    lines[:] = text.split("\n")


def with_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """The colons that napoleon did not see."""
    lines[:] = [line.replace(COLON, ": ") for line in lines]


def signature_of(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    given: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """A value that the library makes shows how it is read, not how it is made."""
    if what != "class" or not dataclasses.is_dataclass(obj):
        return None
    if "Args:" not in (obj.__doc__ or ""):
        return "", None
    return (given or "").replace("=<factory>", " = ..."), returned


def links_home(app: Sphinx, docname: str, source: list[str]) -> None:
    """The pages that lie beside `docs/`, as a repository has them, are pages of the site too."""
    source[0] = re.sub(
        r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG|SECURITY)\.md",
        lambda found: f"](/project/{found[1].lower()}.md",
        source[0],
    )


def public_home(
    app: Sphinx, env: Any, node: addnodes.pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """An annotation names a class by the module it stands in; the reference has it where it is exported."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    for module in (mk, modelkit.types):
        if name in module.__all__:
            home = f"{module.__name__}.{name}"
            domain = env.get_domain("py")
            shown = nodes.Text(name) if isinstance(contnode, nodes.Text) else contnode
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, shown)
    return None


def prose(text: str) -> list[nodes.Node]:
    """A text of the command line, whose backticks and options are code."""
    parts = re.split(r"`([^`]+)`|(?<!\S)(--\w[\w-]*)", text)
    return [
        nodes.Text(part) if at % 3 == 0 else nodes.literal(text=part)
        for at, part in enumerate(parts)
        if part
    ]


def options_of(parser: argparse.ArgumentParser) -> nodes.definition_list:
    """Each argument of a command: how it is written, and what its help says."""
    formatter = parser._get_formatter()
    listed = nodes.definition_list(classes=["arguments"])
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        written = formatter._format_action_invocation(action)
        required = " (required)" if action.option_strings and action.required else ""
        term = nodes.term("", "", nodes.literal(text=written), nodes.Text(required))
        said = formatter._expand_help(action) if action.help else ""
        definition = nodes.definition("", nodes.paragraph("", "", *prose(said)))
        listed += nodes.definition_list_item("", term, definition)
    return listed


class Commands(Directive):
    """The whole command line, a section for each command, from the parser that reads it."""

    def run(self) -> list[nodes.Node]:
        parser = build_parser()
        status = nodes.paragraph("", "", *prose(parser.epilog or ""))
        return [status, *self.sections(parser)]

    def sections(self, parser: argparse.ArgumentParser) -> Iterator[nodes.section]:
        """A section for each command below one, and in it one for each action of that command."""
        for below in parser._actions:
            if not isinstance(below, argparse._SubParsersAction):
                continue
            for command in below.choices.values():
                section = nodes.section(ids=[nodes.make_id(command.prog)], names=[command.prog])
                section += nodes.title("", command.prog)
                section += nodes.paragraph("", "", *prose(command.description or ""))
                deeper = [*self.sections(command)]
                if not deeper:
                    usage = command.format_usage().removeprefix("usage: ")
                    section += nodes.literal_block(usage, usage, language="text")
                section += options_of(command)
                if command.epilog:
                    section += nodes.literal_block(command.epilog, command.epilog, language="text")
                section += deeper
                yield section


def setup(app: Sphinx) -> None:
    app.add_directive("commands", Commands)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", with_colons, priority=600)
    app.connect("autodoc-process-signature", signature_of)
    app.connect("source-read", links_home)
    app.add_lexer("haproxy", TextLexer)
    app.connect("missing-reference", public_home)
