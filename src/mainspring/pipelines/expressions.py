"""Conditions: the subset of CEL that pipelines use, parsed once and evaluated over typed values.

A value is always data: it is looked up while the parsed expression is evaluated and never becomes part of the
text. A missing key is an error, not false. Strings written by KFP's compiler hold quotes unescaped
(``x == 'it's'``): a quote ends a string only where a string can end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mainspring.core import InvalidInput, Json

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+|\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<operator>==|!=|<=|>=|&&|\|\||[<>!()\[\].,+\-*/%])|(?P<quote>['\"]))"
)
_AFTER_STRING = re.compile(r"\s*(?:$|==|!=|<=|>=|<|>|&&|\|\||\)|\]|,|\+|\bin\b)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_BINARY = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))


class Literal(msgspec.Struct, frozen=True):
    """A constant."""

    value: Any


class Variable(msgspec.Struct, frozen=True):
    """A name of the environment."""

    name: str


class Lookup(msgspec.Struct, frozen=True):
    """``object[key]`` or ``object.key``."""

    object: Expression
    key: Expression


class Operation(msgspec.Struct, frozen=True):
    """An operator or a function with its operands."""

    operator: str
    operands: tuple[Expression, ...]


Expression = Literal | Variable | Lookup | Operation


class EvaluationError(InvalidInput):
    """The expression is well formed but has no value here: a missing key, or types that do not fit."""


def parse_expression(text: str) -> Expression:
    """Parse an expression; raise `InvalidInput` with the place where it stops being one."""
    return _Parser(text).parse()


def evaluate(expression: Expression, environment: Mapping[str, Any]) -> Json:
    """Evaluate over the named values; raise `EvaluationError` when there is no value."""
    match expression:
        case Literal(value):
            return value
        case Variable(name):
            if name not in environment:
                raise EvaluationError(f"There is no {name!r} here.")
            return environment[name]
        case Lookup(target, key):
            return _look_up(evaluate(target, environment), evaluate(key, environment))
        case Operation(operator, operands):
            if operator in ("&&", "||"):
                return _short_circuit(operator, operands, environment)
            values = [evaluate(operand, environment) for operand in operands]
            if operator == "list":
                return values
            return _OPERATORS[operator, len(values)](*values)


def evaluate_condition(expression: Expression, environment: Mapping[str, Any]) -> bool:
    """Evaluate an expression that has to be true or false."""
    return _as_bool(evaluate(expression, environment))


class _Parser:
    """Recursive descent over the tokens; one instance per text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.kind, self.lexeme = "", ""
        self._advance()

    def parse(self) -> Expression:
        expression = self._binary(0)
        if self.kind != "end":
            raise self._error(f"unexpected {self.lexeme!r}")
        return expression

    def _binary(self, level: int) -> Expression:
        if level == len(_BINARY):
            return self._unary()
        left = self._binary(level + 1)
        while self.kind in ("operator", "name") and self.lexeme in _BINARY[level]:
            operator = self.lexeme
            self._advance()
            left = Operation(operator, (left, self._binary(level + 1)))
            if level == 2 and self.kind == "operator" and self.lexeme in _BINARY[level]:
                raise self._error("comparisons cannot be chained")
        return left

    def _unary(self) -> Expression:
        if self.kind == "operator" and self.lexeme in ("!", "-"):
            operator = self.lexeme
            self._advance()
            return Operation(operator, (self._unary(),))
        return self._postfix(self._primary())

    def _postfix(self, expression: Expression) -> Expression:
        while self.kind == "operator" and self.lexeme in (".", "["):
            if self.lexeme == "[":
                self._advance()
                expression = Lookup(expression, self._binary(0))
                self._expect("]")
            else:
                self._advance()
                if self.kind != "name":
                    raise self._error("a name has to follow '.'")
                expression = Lookup(expression, Literal(self.lexeme))
                self._advance()
        return expression

    def _primary(self) -> Expression:
        kind, lexeme = self.kind, self.lexeme
        if kind == "end":
            raise self._error("it ends too early")
        self._advance()
        if kind == "number":
            return Literal(int(lexeme) if lexeme.isdigit() else float(lexeme))
        if kind == "string":
            return Literal(lexeme)
        if kind == "name":
            return self._named(lexeme)
        if lexeme == "(":
            inner = self._binary(0)
            self._expect(")")
            return inner
        if lexeme == "[":
            return self._list()
        raise self._error(f"unexpected {lexeme!r}")

    def _list(self) -> Expression:
        items: list[Expression] = []
        while not (self.kind == "operator" and self.lexeme == "]"):
            items.append(self._binary(0))
            if not (self.kind == "operator" and self.lexeme == ","):
                break
            self._advance()
        self._expect("]")
        return Operation("list", tuple(items))

    def _named(self, name: str) -> Expression:
        if name in _CONSTANTS:
            return Literal(_CONSTANTS[name])
        if not (self.kind == "operator" and self.lexeme == "("):
            return Variable(name)
        if (name, 1) not in _OPERATORS or name in ("!", "-"):
            raise self._error(f"unknown function {name!r}")
        self._advance()
        operand = self._binary(0)
        self._expect(")")
        return Operation(name, (operand,))

    def _expect(self, token: str) -> None:
        if not (self.kind == "operator" and self.lexeme == token):
            raise self._error(f"{token!r} is missing")
        self._advance()

    def _advance(self) -> None:
        if not self.text[self.place :].strip():
            self.kind, self.lexeme, self.place = "end", "", len(self.text)
            return
        match = _TOKEN.match(self.text, self.place)
        if match is None or match.lastgroup is None:
            raise self._error(f"unexpected {self.text[self.place :].strip()[:1]!r}")
        self.place = match.end()
        self.kind, self.lexeme = match.lastgroup, match[match.lastgroup]
        if self.kind == "quote":
            self.kind, self.lexeme = "string", self._string(self.lexeme)

    def _string(self, quote: str) -> str:
        characters: list[str] = []
        while self.place < len(self.text):
            character = self.text[self.place]
            self.place += 1
            if character == "\\" and self.text[self.place : self.place + 1] in _ESCAPES:
                characters.append(_ESCAPES[self.text[self.place]])
                self.place += 1
            elif character == quote and _AFTER_STRING.match(self.text, self.place):
                return "".join(characters)
            else:
                characters.append(character)
        raise self._error("a string does not end")

    def _error(self, problem: str) -> InvalidInput:
        return InvalidInput(f"The condition {self.text!r} cannot be read at character {self.place}: {problem}.")


def _look_up(target: Json, key: Json) -> Json:
    if isinstance(target, Mapping) and key in target:
        return target[key]
    if isinstance(target, list) and _is_number(key) and 0 <= key < len(target):
        return target[int(key)]
    raise EvaluationError(f"There is no {key!r} in the {_type_name(target)}.")


def _short_circuit(operator: str, operands: tuple[Expression, ...], environment: Mapping[str, Any]) -> bool:
    for operand in operands:
        value = _as_bool(evaluate(operand, environment))
        if value is (operator == "||"):
            return value
    return operator == "&&"


def _as_bool(value: Json) -> bool:
    if not isinstance(value, bool):
        raise EvaluationError(f"{value!r} is a {_type_name(value)}, not true or false.")
    return value


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _type_name(value: Json) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", type(None): "null"}
    return names.get(type(value), "struct")


def _equal(left: Json, right: Json) -> bool:
    return _type_name(left) == _type_name(right) and bool(left == right)


def _ordered(operator: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(left: Json, right: Json) -> bool:
        kinds = {_type_name(left), _type_name(right)}
        if kinds not in ({"number"}, {"string"}, {"boolean"}):
            raise EvaluationError(f"{left!r} {operator} {right!r}: a {' and a '.join(sorted(kinds))} have no order.")
        return compare(left, right)

    return apply


def _arithmetic(operator: str, compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Json, right: Json) -> Json:
        both_strings = operator == "+" and isinstance(left, str) and isinstance(right, str)
        if not both_strings and not (_is_number(left) and _is_number(right)):
            raise EvaluationError(f"{left!r} {operator} {right!r} has no value.")
        try:
            return compute(left, right)
        except ZeroDivisionError as error:
            raise EvaluationError(f"{left!r} {operator} {right!r}: division by zero.") from error

    return apply


def _convert(name: str, types: tuple[type, ...], convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(value: Json) -> Json:
        try:
            if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
                return convert(value)
        except ValueError:
            pass
        raise EvaluationError(f"{name}({value!r}) has no value.")

    return apply


def _text_of(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _contains(item: Json, container: Json) -> bool:
    if not isinstance(container, list | dict):
        raise EvaluationError(f"{item!r} in a {_type_name(container)} has no value.")
    return any(_equal(item, other) for other in container)


_OPERATORS: Mapping[tuple[str, int], Callable[..., Any]] = {
    ("==", 2): _equal,
    ("!=", 2): lambda left, right: not _equal(left, right),
    ("<", 2): _ordered("<", lambda left, right: left < right),
    ("<=", 2): _ordered("<=", lambda left, right: left <= right),
    (">", 2): _ordered(">", lambda left, right: left > right),
    (">=", 2): _ordered(">=", lambda left, right: left >= right),
    ("in", 2): _contains,
    ("+", 2): _arithmetic("+", lambda left, right: left + right),
    ("-", 2): _arithmetic("-", lambda left, right: left - right),
    ("*", 2): _arithmetic("*", lambda left, right: left * right),
    ("/", 2): _arithmetic("/", lambda left, right: left / right),
    ("%", 2): _arithmetic("%", lambda left, right: left % right),
    ("!", 1): lambda value: not _as_bool(value),
    ("-", 1): lambda value: _arithmetic("-", lambda left, right: left - right)(0, value),
    ("int", 1): _convert("int", (int, float, str), int),
    ("double", 1): _convert("double", (int, float, str), float),
    ("string", 1): _convert("string", (bool, int, float, str), _text_of),
    ("bool", 1): _convert("bool", (bool,), bool),
    ("size", 1): _convert("size", (str, list, dict), len),
    ("parseJson", 1): _convert("parseJson", (str,), msgspec.json.decode),
}
