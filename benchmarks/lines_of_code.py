"""How many lines of one's own does a model take with vaelib, and with pyro?

The examples of the page *Your own model* against the same ones in `benchmarks/in_pyro`, which train
the same networks for as many epochs and report the same bound.

A line is a statement, however it is laid out: each `class`, `def`, `for`, `if` and decorator is
one, too. Imports, docstrings, `print` and what reads the data count for nobody. Of an example those
lines count that are not in the program of the plain VAE of the same library: what has to be
written or changed. So the networks and the loop of pyro's plain VAE count once, in its own row.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

__all__ = ["EXAMPLES", "lines", "of_page", "of_pyro", "table", "written"]

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    "plain": "plain VAE, the whole program",
    "iwae": "importance-weighted bound, S = 5",
    "free-bits": "free bits",
    "learnt-prior": "learnt Gaussian prior",
    "vampprior": "VampPrior",
    "flow": "flow posterior",
    "conditional": "conditional VAE",
    "two-layers": "two stochastic layers",
    "m2": "M2",
}


def lines(code: str) -> Counter[str]:
    """The statements of a program, each as Python writes it, that count."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.Constant)
            or (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "print")
        ):
            continue
        text = ast.unparse(node).splitlines()
        decorators = len(getattr(node, "decorator_list", []))
        # Of a compound statement the head, since what is in it is met on its own.
        found.update(text[: decorators + 1])
    return found


def of_page(example: str) -> str:
    """The cells of an example on the page, which its tag names."""
    text = (ROOT / "chapters" / "your-own-model.md").read_text("utf-8")
    cells = re.findall(
        r"^```\{code-cell\} ipython3\n:tags: \[(.*?)\]\n(.*?)^```$", text, re.M | re.S
    )
    return "\n".join(code for tags, code in cells if f"count-{example}" in tags.split(", "))


def of_pyro(example: str) -> str:
    """Its program in pyro."""
    return (ROOT / "benchmarks" / "in_pyro" / f"{example.replace('-', '_')}.py").read_text("utf-8")


def written(code: str, plain: str) -> int:
    """How many lines of a program are not in that of the plain VAE."""
    return (lines(code) - lines(plain)).total()


def table() -> str:
    """Both counts of every example, in Markdown."""
    rows = ["| | vaelib | pyro |", "| --- | ---: | ---: |"]
    for example, name in EXAMPLES.items():
        counts = [
            written(of(example), "" if example == "plain" else of("plain"))
            for of in (of_page, of_pyro)
        ]
        rows.append(f"| {name} | {counts[0]} | {counts[1]} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
