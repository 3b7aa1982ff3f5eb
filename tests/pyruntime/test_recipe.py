"""The words of a recipe: what they mean, and one line of help for each wrong one."""

import pytest

from pyruntime.errors import OptionError
from pyruntime.prune.spec import PruneSpec
from pyruntime.prune.spec import parse_spec as parse_prune
from pyruntime.quantize.schemes.small_float import SmallFloat
from pyruntime.quantize.spec import QuantizeSpec
from pyruntime.quantize.spec import parse_spec as parse_quantize
from pyruntime.recipe import Recipe


def test_prune_words():
    assert parse_prune("block4=0.85") == PruneSpec("block4", 0.85)
    assert parse_prune("2:4") == PruneSpec("2:4", 0.5)
    assert parse_prune("1:16") == PruneSpec("1:16", 0.5)
    assert parse_prune("filter=0.3") == PruneSpec("filter", 0.3, round_to=16, budget="channels")
    assert parse_prune("channel,macs=0.5,round_to=8,criterion=obs") == PruneSpec(
        "channel", 0.5, "obs", round_to=8, budget="macs"
    )
    spec = parse_prune(" weight = 0.9 , criterion=random, scope=layer, exclude=a*, exclude=b, only=c? ")
    assert spec == PruneSpec("weight", 0.9, "random", "layer", ("c?",), ("a*", "b"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weigth=0.9", "expected one of: weight=FRACTION, block4=FRACTION, block8=FRACTION"),
        ("4:4", "N:M such as 2:4"),
        ("0:4", "is unknown"),
        ("2:65", "is unknown"),
        ("filter", "'filter' needs a fraction"),
        ("filter=0.3,macs=0.5", "leave out one of the two fractions"),
        ("filter,macs=1", "[0, 1)"),
        ("filter=0.3,round_to=0", "integer from 1 to 1024"),
        ("channel=0.3,round_to=many", "integer from 1 to 1024"),
        ("channel=0.3,colour=red", "expected one of: criterion, scope, exclude, only, round_to, macs"),
        ("weight=0.5,criterion=bn_scale", "judges whole channels; use it with filter=FRACTION"),
        ("2:4,criterion=geometric_median", "judges whole channels"),
        ("weight=0.5,macs=0.5", "expected one of: criterion, scope, exclude, only"),
        ("weight", "weight=0.75"),
        ("2:4=0.5", "takes no value"),
        ("weight=1", "[0, 1)"),
        ("weight=1.0", "[0, 1)"),
        ("weight=-0.1", "[0, 1)"),
        ("weight=nan", "[0, 1)"),
        ("weight=half", "not a number"),
        ("weight=0.5,criterion=size", "expected one of: magnitude, l1, random"),
        ("weight=0.5,scope=all", "expected one of: global, layer"),
        ("weight=0.5,round_to=16", "option 'round_to' is unknown"),
        ("weight=0.5,colour=red", "expected one of: criterion, scope, exclude, only"),
        ("weight=0.5,exclude", "name=value"),
        ("weight=0.5,exclude=", "name=value"),
        ("", "expected a text"),
        (",scope=layer", "before the first comma"),
    ],
)
def test_wrong_prune_words(text, says):
    with pytest.raises(OptionError) as error:
        parse_prune(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_quantize_words():
    assert parse_quantize("int8") == QuantizeSpec()
    assert parse_quantize("none").scheme is None
    assert parse_quantize("int4,group=32").scheme.label == "int4 group=32"
    assert parse_quantize("fp:4.3") == QuantizeSpec(SmallFloat("fp:4.3"), activations="float")
    assert not parse_quantize("int4,activations=float").integer
    assert parse_quantize("codebook=16").integer
    assert parse_quantize("int4,activations=s8").integer
    assert [parse_quantize(text).ends for text in ("int4", "int5", "int3,ends=same", "int8,ends=int8")] == [
        True,
        False,
        False,
        True,
    ]
    assert parse_quantize("int8,calibrate=percentile,activations=u8").calibrate == "percentile"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("int9", "expected one of: int2..int8, pow2, codebook=K, hashed=RATIO, fp16"),
        ("fp8_e4m3,activations=u8", "run in float32; write activations=float"),
        ("fp8_e4m3,calibrate=mse", "has no effect with float activations"),
        ("int4,ends=int4", "expected one of: int8, same"),
        ("int4,activations=u8,activations=u8", "given twice"),
        ("none=1", "takes no value"),
        ("int8=3", "takes no value"),
        ("int8,calibrate=best", "expected one of: minmax, average, percentile, entropy, mse"),
        ("int8,activations=u4", "expected one of: u8, s8, dynamic, float"),
        ("fp16,activations=s8", "run in float32; write activations=float"),
        ("int8,group=32", "group=N needs 2 to 7 bits"),
        ("none,calibrate=mse", "has no effect"),
    ],
)
def test_wrong_quantize_words(text, says):
    with pytest.raises(OptionError) as error:
        parse_quantize(text)
    assert says in str(error.value)


def test_recover_words():
    assert Recipe.of({"recover": "bias, obs"}).recover_steps(calibrated=False) == ("obs", "bias")
    assert Recipe.of({"recover": "none"}).recover_steps(calibrated=True) == ()
    assert Recipe.of("int8").recover_steps(calibrated=True) != ()
    with pytest.raises(OptionError, match="step 'none' is unknown"):
        Recipe.of({"recover": "none,bias"})


def test_presets_and_dicts():
    assert Recipe.of("int8") == Recipe()
    assert Recipe.of("float").quantize_spec().scheme is None
    recipe = Recipe.of({"prune": "weight=0.5", "recover": "bias, obs"})
    assert recipe.prune == ("weight=0.5",)
    assert recipe.recover == ("bias", "obs")
    assert Recipe.of(recipe) is recipe


def test_yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("prune: [block4=0.75, 'weight=0.5,only=fc']\nquantize: int8\nrecover: []\n")
    recipe = Recipe.of(path)
    assert recipe.prune == ("block4=0.75", "weight=0.5,only=fc")
    assert recipe.recover_steps(calibrated=True) == ()


def test_steps():
    assert Recipe().recover_steps(calibrated=True) == ("obs", "bias")
    assert Recipe().recover_steps(calibrated=False) == ()
    assert Recipe(prune=["2:4"]).recover_steps(calibrated=True) == ("obs", "bn", "bias")
    assert Recipe(prune=["2:4"], quantize="none").recover_steps(calibrated=True) == ("obs", "bn")
    assert Recipe(quantize="none").recover_steps(calibrated=True) == ()
    assert Recipe(prune=["2:4"], recover=["bias,bn", "obs"]).recover_steps(calibrated=True) == (
        "obs",
        "bn",
        "bias",
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("int4", "expected one of: int8, float, or a .yaml path"),
        ({"quantise": "int8"}, "expected one of: prune, quantize, layers, recover"),
        ({"target": "size=2"}, "a share of the float32 network's"),
        ({"target": "size=0.5", "quantize": "mixed,bits=4"}, "both ask for a search"),
        ({"target": "size=0.5", "quantize": "int4"}, "chooses each layer"),
        ({"target": "size=0.5", "quantize": "int8,activations=float"}, "leave out one of them"),
        ({"layers": {"fc": "mixed,bits=4"}}, "'mixed' chooses for the whole network"),
        ({"prune": ["2:4,scope=budget"]}, "scope=budget shares out a fraction"),
        ({"prune": ["filter=0.5,scope=budget"]}, "scope=budget shares out a fraction"),
        ({"recover": "magic"}, "expected one of: obs, bn, equalize, smooth, adaround, bias"),
        ({"prune": [0.5]}, "recipe: entry 'prune' is [0.5]; expected a list of texts"),
        ({"prune": None}, "expected a list of texts"),
        ({"quantize": 8}, "expected a text"),
        ({"layers": ["int4"]}, "expected layer names and their schemes"),
        ({"layers": {"fc": 4}}, "expected layer names and their schemes"),
        ({"layers": {"fc": "int9"}}, "layers: 'fc': --quantize 'int9': scheme 'int9' is unknown"),
        ({"quantize": "mixed,bits=0.5"}, "expected 1 to 8"),
        ("missing.yaml", "cannot be read"),
    ],
)
def test_wrong_recipes(source, says):
    with pytest.raises(OptionError) as error:
        Recipe.of(source)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- int8\n", "quantize: [unclosed\n", ""])
def test_yaml_that_is_no_recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(OptionError, match="recipe"):
        Recipe.of(path)


def test_a_yaml_error_names_its_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("recover: [bias]\nquantize: [unclosed\n")
    with pytest.raises(OptionError, match=r"recipe.yaml, line 3, column 1: cannot be read"):
        Recipe.of(path)
