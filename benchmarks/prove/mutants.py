"""Small faults in a module, one at a time: what somebody may break without noticing.

A mutant changes one expression or statement in the body of a function, or one number that a module
defines. Texts stay as they are: most are for people.
"""

from __future__ import annotations

import ast
import copy
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """`place`: name of the function, with its class; "" in the module itself. `name` says what it
    changes, and is unique: in the `tree` of its module, one `node` for another."""

    path: str
    place: str
    line: int
    name: str
    tree: ast.Module
    node: ast.AST
    changed: ast.AST

    def changed_tree(self) -> ast.Module:
        """A copy of the tree with the one node replaced."""
        memo: dict[int, Any] = {id(self.node): self.changed}
        return ast.fix_missing_locations(copy.deepcopy(self.tree, memo))


def mutants_of(root: Path, path: str) -> Iterator[Mutant]:
    """All mutants of one module, in the order of its lines."""
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    names: Counter[str] = Counter()
    for place, function in _functions(tree):
        for node in _inner(function):
            for changed in _changes(node):
                yield _mutant(tree, path, place, node, changed, names)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for changed in _changes(statement.value):
                yield _mutant(tree, path, "", statement.value, changed, names)


def _mutant(
    tree: ast.Module,
    path: str,
    place: str,
    node: ast.AST,
    changed: ast.AST,
    names: Counter[str],
) -> Mutant:
    before, after = _text(node), _text(changed)
    name = f"{path} {place}: {before} -> {after}".replace(" :", ":")
    names[name] += 1
    if names[name] > 1:
        name += f" ({names[name]})"
    ast.copy_location(changed, node)
    line = next(n.lineno for n in ast.walk(node) if isinstance(n, ast.expr | ast.stmt))
    return Mutant(path, place, line, name, tree, node, changed)


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:160]


def _functions(tree: ast.AST, place: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{place}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{place}{node.name}", node


def _inner(function: Function) -> Iterator[ast.AST]:
    """Every node that runs when the function does; what only people read is left out."""
    todo: list[ast.AST] = [*reversed(function.body)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
            continue
        yield node
        if isinstance(node, ast.FunctionDef):
            todo += reversed(node.body)
            continue
        if isinstance(node, ast.AnnAssign):
            todo += [node.value] if node.value else []
            continue
        todo += reversed([*ast.iter_child_nodes(node)])


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    changes = {
        ast.Compare: _compare,
        ast.BoolOp: _bool_op,
        ast.UnaryOp: _unary,
        ast.BinOp: _bin_op,
        ast.Constant: _constant,
        ast.IfExp: _if_exp,
        ast.If: _if,
        ast.Return: _return,
        ast.Expr: _statement,
        ast.AugAssign: _statement,
        ast.comprehension: _comprehension,
        ast.Continue: _continue,
        ast.Break: _break,
    }
    change = changes.get(type(node))
    if change:
        yield from change(node)  # type: ignore[operator]


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for number, operator in enumerate(node.ops):
        changed = copy.copy(node)
        changed.ops = [*node.ops]
        changed.ops[number] = _COMPARISONS[type(operator)]()
        yield changed


def _bool_op(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


def _bin_op(node: ast.BinOp) -> Iterator[ast.AST]:
    is_text = isinstance(node.left, ast.JoinedStr) or isinstance(node.right, ast.JoinedStr)
    operator = _OPERATORS.get(type(node.op))
    if operator and not is_text:
        yield ast.BinOp(node.left, operator(), node.right)


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)


def _if_exp(node: ast.IfExp) -> Iterator[ast.AST]:
    yield ast.IfExp(node.test, node.orelse, node.body)


def _if(node: ast.If) -> Iterator[ast.AST]:
    for value in (True, False):
        yield ast.If(ast.Constant(value), node.body, node.orelse)


def _return(node: ast.Return) -> Iterator[ast.AST]:
    is_none = node.value is None or (
        isinstance(node.value, ast.Constant) and node.value.value is None
    )
    if not is_none:
        yield ast.Return(ast.Constant(None))


def _statement(node: ast.Expr | ast.AugAssign) -> Iterator[ast.AST]:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Yield)
    if not is_text:
        yield ast.Pass()


def _comprehension(node: ast.comprehension) -> Iterator[ast.AST]:
    if node.ifs:
        yield ast.comprehension(node.target, node.iter, [], node.is_async)


def _continue(_: ast.Continue) -> Iterator[ast.AST]:
    yield ast.Break()


def _break(_: ast.Break) -> Iterator[ast.AST]:
    yield ast.Continue()


# --- to put one into this process -----------------------------------------------------------


def put_in(mutant: Mutant) -> None:
    """Change the module where it is loaded, for good: call it in a process of its own."""
    name = mutant.path.removesuffix(".py").replace("/", ".")
    module = sys.modules[name]
    code = compile(mutant.changed_tree(), module.__file__ or name, "exec")
    if mutant.place:
        _function(module, mutant.place).__code__ = _code_of(code, mutant.place.split("."))
    else:
        _put_number(module, code)


def _code_of(code: types.CodeType, place: list[str]) -> types.CodeType:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == place[0]]
    return _code_of(inner[-1], place[1:]) if place[1:] else inner[-1]


def _function(module: types.ModuleType, place: str) -> Any:
    found: Any = module
    for name in place.split("."):
        found = vars(found)[name]
    while not hasattr(found, "__code__"):
        found = (
            getattr(found, "fget", None) or getattr(found, "__wrapped__", None) or found.__func__
        )
    return found


def _put_number(module: types.ModuleType, code: types.CodeType) -> None:
    """The modules that imported the number have one of their own."""
    changed = types.ModuleType(module.__name__)
    changed.__file__ = module.__file__
    before = {k: v for k, v in vars(module).items() if isinstance(v, int | float)}
    sys.modules[module.__name__] = changed  # dataclasses look for it
    exec(code, vars(changed))
    sys.modules[module.__name__] = module
    for name, value in before.items():
        if vars(changed)[name] != value:
            for other in [*sys.modules.values()]:
                if vars(other).get(name) == value and name in vars(other):
                    setattr(other, name, vars(changed)[name])
