"""Finding classes, typing their arguments, and making the objects."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from framework.cli import yaml12
from framework.cli.classes import Classes
from framework.cli.nodes import Node, Origin
from framework.cli.specs import SpecReader
from framework.errors import ConfigError, ShapeError

MODULE = """
from __future__ import annotations
import enum
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from framework.errors import ShapeError

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Hook:
    pass


class Quiet(Hook):
    def __init__(self, level: int = 1):
        self.level = level


class Other:
    pass


class Base:
    def __init__(self, width: int, rate: float = 0.5):
        self.width, self.rate = width, rate


class Thing(Base):
    def __init__(
        self,
        name: str = "x",
        flag: bool = False,
        hidden: list[int] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        mode: Literal["min", "max"] = "min",
        colour: Colour = Colour.RED,
        path: Path | None = None,
        hooks: list[Hook] | Hook | None = None,
        log: Hook | Iterable[Hook] | bool | None = True,
        labels: dict[str, float] | None = None,
        names: list[str] | None = None,
        any_value: Any = None,
        untyped=None,
        number: int | str = 3,
        cost: Decimal | None = None,
        fn: Callable[[int], int] | None = None,
        broken: int = None,
        pause: timedelta | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.__dict__.update({k: v for k, v in locals().items() if k not in ("self", "kwargs")})


class Anything:
    def __init__(self, a: int = 0, **options):
        self.options = options


class Careless:
    def __init__(self, a: int = 0):
        self.a = 1 / a


class Strict:
    def __init__(self, width: int = 0):
        raise ShapeError(f"width {width} does not fit")


def make():
    pass


class Outer:
    class Inner:
        pass
"""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    (tmp_path / "zoo_parts.py").write_text(MODULE)
    (tmp_path / "zoo_package").mkdir()
    (tmp_path / "zoo_package" / "animals.py").write_text("class Cat: pass\n")
    (tmp_path / "zoo_broken.py").write_text("import zoo_not_there\n")
    (tmp_path / "zoo_raises.py").write_text("value = 1\nraise RuntimeError('boom')\n")
    (tmp_path / "zoo_syntax.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield SpecReader(Classes())
    import sys

    for name in [name for name in sys.modules if name.startswith("zoo_")]:
        del sys.modules[name]


def spec(reader, text, **options):
    return reader.read(yaml12.load(textwrap.dedent(text), "c.yaml"), "model", **options)


def thing(reader, init_args):
    return spec(reader, f"class_path: zoo_parts.Thing\ninit_args: {{width: 1, {init_args}}}").make()


VALUES = [
    ("name: no", "name", "no"),
    ("name: 1.10", "name", "1.10"),
    ("name: true", "name", "true"),
    ("name: '3'", "name", "3"),
    ("width: 3", "width", 3),
    ("rate: 1", "rate", 1.0),
    ("rate: 1e-3", "rate", 1e-3),
    ("rate: .inf", "rate", float("inf")),
    ("flag: true", "flag", True),
    ("flag: off", "flag", False),
    ("hidden: [3, 4]", "hidden", [3, 4]),
    ("hidden: null", "hidden", None),
    ("betas: [0.5, 1]", "betas", (0.5, 1.0)),
    ("mode: max", "mode", "max"),
    ("path: some/where", "path", Path("some/where")),
    ("labels: {a: 1}", "labels", {"a": 1.0}),
    ("names: [no, 1, 2.50, x]", "names", ["no", "1", "2.50", "x"]),
    ("any_value: {a: [no, 1]}", "any_value", {"a": ["no", 1]}),
    ("any_value: '3'", "any_value", "3"),
    ("untyped: '3'", "untyped", "3"),
    ("untyped: [1, x]", "untyped", [1, "x"]),
    ("number: 4", "number", 4),
    ("number: '4'", "number", "4"),
    ("number: 1.5", "number", "1.5"),
    ("broken: null", "broken", None),
    ("log: false", "log", False),
    ("pause: '0:01:30'", "pause", timedelta(seconds=90)),
    ("fn: math.isqrt", "fn", __import__("math").isqrt),
]


@pytest.mark.parametrize(("init_args", "name", "value"), VALUES)
def test_values_are_typed(reader, init_args, name, value):
    if name == "width":
        found = spec(reader, f"class_path: zoo_parts.Thing\ninit_args: {{{init_args}}}").make()
    else:
        found = thing(reader, init_args)
    assert getattr(found, name) == value
    assert type(getattr(found, name)) is type(value)


def test_enums_by_name(reader):
    assert thing(reader, "colour: BLUE").colour.name == "BLUE"


WRONG = [
    ("rate: abc", "model.init_args.rate: expected float, got 'abc'"),
    ("rate: true", "model.init_args.rate: expected float, got true"),
    ("rate: null", "model.init_args.rate: expected float, got null"),
    ("flag: 1", "model.init_args.flag: expected true or false, got 1"),
    ("hidden: 3", "model.init_args.hidden: expected a list of int, or null, got 3"),
    ("hidden: [1, a]", "model.init_args.hidden: expected a list of int, or null, got [1, 'a']"),
    ("betas: [0.1]", "model.init_args.betas: expected a list of 2: float, float, got [0.1]"),
    ("mode: mn", "model.init_args.mode: expected 'min' or 'max', got 'mn'"),
    ("colour: GREEN", "model.init_args.colour: expected RED or BLUE, got 'GREEN'"),
    ("labels: {a: b}", "model.init_args.labels: expected a mapping of str to float, or null, got {'a': 'b'}"),
    ("hooks: 3", "model.init_args.hooks: expected a list of Hook, Hook, or null, got 3"),
    ("hooks: [3]", "model.init_args.hooks: expected a list of Hook, Hook, or null, got [3]"),
    ("hooks: [zoo_parts.Quiet, 3]", "model.init_args.hooks.1: expected an object (class_path and init_args), got 3"),
    (
        "hooks: {class_path: zoo_parts.Other}",
        "model.init_args.hooks: expected a list of Hook, Hook, or null, got an Other",
    ),
    ("hooks: [{class_pth: zoo_parts.Quiet}]", "hooks.0.class_pth: unknown key 'class_pth'. Did you mean 'class_path'?"),
    ("hooks: [{init_args: {level: 1}}]", "model.init_args.hooks.0: class_path is missing"),
    ("nam: x", "model.init_args.nam: Thing has no argument 'nam'. Did you mean 'name'?"),
    ("widht: 3", "Did you mean 'width'?"),
    ("zzz: 3", "Thing has no argument 'zzz'. It has any_value, betas, "),
    ("number: [1]", "model.init_args.number: expected int or str, got [1]"),
]


@pytest.mark.parametrize(("init_args", "message"), WRONG)
def test_wrong_values_are_named_with_their_place(reader, init_args, message):
    with pytest.raises(ConfigError) as caught:
        thing(reader, init_args)
    assert str(caught.value).startswith("c.yaml:2: ")
    assert message in str(caught.value)
    assert "Union" not in str(caught.value)


def test_missing_arguments_are_named(reader):
    with pytest.raises(ConfigError, match=r"^c.yaml:1: model.init_args: Thing needs 'width'"):
        spec(reader, "class_path: zoo_parts.Thing")


def test_objects_in_arguments_are_made_with_them(reader):
    found = thing(reader, "hooks: [{class_path: zoo_parts.Quiet, init_args: {level: 7}}, zoo_parts.Quiet]")
    assert [hook.level for hook in found.hooks] == [7, 1]
    assert thing(reader, "log: zoo_parts.Quiet").log.level == 1
    assert thing(reader, "any_value: {a: {class_path: zoo_parts.Quiet}, b: 1}").any_value["a"].level == 1


def test_a_wrong_value_inside_an_object_has_its_own_line(reader):
    text = """\
        class_path: zoo_parts.Thing
        init_args:
          width: 1
          hooks:
          - class_path: zoo_parts.Quiet
            init_args:
              level: high
    """
    message = r"^c.yaml:7: model.init_args.hooks.0.init_args.level: expected int, got 'high'"
    with pytest.raises(ConfigError, match=message):
        spec(reader, text)


def test_nothing_is_made_before_everything_is_checked(reader):
    text = """\
        class_path: zoo_parts.Thing
        init_args:
          width: 1
          any_value: [{class_path: zoo_parts.Careless}]
          hooks: [{class_path: zoo_parts.Quiet, init_args: {levle: 1}}]
    """
    with pytest.raises(ConfigError, match="Did you mean 'level'"):
        spec(reader, text)


CLASSES = [
    ("zoo_parts.Thng", "model.class_path: no class 'Thng' in zoo_parts", "Did you mean 'Thing'?"),
    ("zoo_part.Thing", "no module 'zoo_part'. Did you mean 'zoo_parts'?", "Searched"),
    ("zoo_packge.animals.Cat", "no module 'zoo_packge'. Did you mean 'zoo_package'?", ""),
    ("zoo_package.animal.Cat", "no module 'animal' in zoo_package. Did you mean 'zoo_package.animals'?", ""),
    ("zoo_package.animals.Dog", "no class 'Dog' in zoo_package.animals", "It has Cat"),
    ("zoo_parts.make", "zoo_parts.make is a function, not a class", ""),
    ("no spaces", "expected a class name such as mymodule.MyClass, got 'no spaces'", ""),
    ("zoo_broken.X", "importing zoo_broken failed: ModuleNotFoundError: No module named 'zoo_not_there'", ""),
    ("zoo_raises.X", "importing zoo_raises failed: RuntimeError: boom", ""),
    ("zoo_syntax.X", "importing zoo_syntax failed: SyntaxError", ""),
]


@pytest.mark.parametrize(("name", "message", "hint"), CLASSES)
def test_classes_that_cannot_be_found(reader, name, message, hint):
    with pytest.raises(ConfigError) as caught:
        spec(reader, f"class_path: {name}")
    assert str(caught.value).startswith("c.yaml:1: model.class_path: ")
    assert message in str(caught.value)
    assert hint in str(caught.value)


def test_an_exception_while_importing_is_chained(reader):
    with pytest.raises(ConfigError) as caught:
        spec(reader, "class_path: zoo_raises.X")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_class_inside_a_class(reader):
    assert spec(reader, "class_path: zoo_parts.Outer.Inner").cls.__qualname__ == "Outer.Inner"


def test_the_base_is_asked_for(reader):
    import zoo_parts

    with pytest.raises(ConfigError, match=r"c.yaml:1: model.class_path: zoo_parts.Other is not a Hook"):
        spec(reader, "class_path: zoo_parts.Other", base=zoo_parts.Hook)


def test_plugin_modules_have_short_names(reader):
    import zoo_parts

    known = SpecReader(Classes([zoo_parts]))
    found = spec(known, "class_path: Quiet")
    assert (found.cls, found.class_path) == (zoo_parts.Quiet, "zoo_parts.Quiet")
    with pytest.raises(ConfigError, match=r"no class 'Quit'. Did you mean 'Quiet'\?"):
        spec(known, "class_path: Quit")
    with pytest.raises(ConfigError, match="Your own classes are named with their module"):
        spec(reader, "class_path: Xyzzy")


def test_a_class_with_free_keywords_takes_any(reader):
    text = "class_path: zoo_parts.Anything\ninit_args: {a: 2, colour: red}"
    assert spec(reader, text).make().options == {"colour": "red"}


def test_an_exception_in_a_constructor_is_chained(reader):
    with pytest.raises(ConfigError) as caught:
        spec(reader, "class_path: zoo_parts.Careless").make()
    assert str(caught.value) == "c.yaml:1: model: Careless(…) raised ZeroDivisionError: division by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_refusal_of_ours_points_at_the_argument_it_names(reader):
    with pytest.raises(ShapeError, match=r"^c.yaml:3: model.init_args.width: width 5 does not fit"):
        spec(reader, "class_path: zoo_parts.Strict\ninit_args:\n  width: 5").make()


def test_filled_arguments_are_not_the_configs(reader):
    with pytest.raises(ConfigError, match="Base gets 'width' from the run; leave it out"):
        spec(reader, "class_path: zoo_parts.Base\ninit_args: {width: 3}", filled=("width",))
    made = spec(reader, "class_path: zoo_parts.Base", filled=("width",))
    assert made.make(9).width == 9
    assert made.arguments() == {"rate": 0.5}


def test_the_tree_is_complete_and_gives_the_same_object(reader):
    init_args = "{colour: BLUE, width: 2, hooks: [zoo_parts.Quiet], path: a/b, pause: '1:00:00'}"
    text = f"class_path: zoo_parts.Thing\ninit_args: {init_args}"
    tree = spec(reader, text).tree()
    assert tree["init_args"]["rate"] == 0.5
    assert tree["init_args"]["hooks"] == [{"class_path": "zoo_parts.Quiet", "init_args": {"level": 1}}]
    assert (tree["init_args"]["colour"], tree["init_args"]["path"]) == ("BLUE", "a/b")
    again = spec(reader, yaml12.dump(tree))
    assert again.tree() == tree
    assert again.make().betas == (0.9, 0.999)


def test_a_class_path_must_be_there(reader):
    with pytest.raises(ConfigError, match=r"--model: class_path is missing"):
        reader.read(Node({}, Origin(flag="model")), "model")
