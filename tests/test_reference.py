"""docs/configuration.md is what docs/reference.py makes of the code, and lacks no key."""

import runpy

from command_line import ROOT

from engine.config import keys

reference = runpy.run_path(str(ROOT / "docs/reference.py"))
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_the_page_is_made_of_the_code_as_it_is():
    assert reference["page"]() == PAGE, "python docs/reference.py writes it anew"


def test_every_key_has_a_row_with_its_meaning():
    known = set(keys.known("train")) - {"unchanged"}
    named = {key for key in known if f"| `{key}` |" in PAGE or f"| `{key}.KEY` |" in PAGE}
    parts = {key for key in known if any(other.startswith(f"{key}.") for other in known)}
    assert {key for key in known - named - parts if "._" not in key} <= {"tracker"}
    assert "|  |\n" not in PAGE


def test_values_are_escaped():
    assert reference["escaped"]("a|b <c> *d") == "a\\|b \\<c> \\*d"
    assert reference["shown"]([1.0, None, True, "a|b"]) == "[1.0,null,true,a\\|b]"
