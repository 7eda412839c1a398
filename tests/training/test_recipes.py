import dataclasses
import json

import pytest

from unspool.training import Recipe, RunError, mnist_recipe, vowels_recipe

RECIPES = [
    make(model, execution)
    for make in (vowels_recipe, mnist_recipe)
    for model in ("lstm", "gru", "simple_rnn")
    for execution in ("dynamic", "static")
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_the_way_through_plain_values(recipe):
    plain = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(plain) == recipe
    assert recipe.differences(Recipe.from_dict(plain)) == []


def test_recipes_are_frozen_and_replaced():
    recipe = vowels_recipe(seed=3, epochs=None)
    assert recipe.seed == 3
    assert recipe.epochs == vowels_recipe().epochs
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 4  # pyright: ignore[reportAttributeAccessIssue]


def test_differences_name_the_fields():
    assert vowels_recipe(seed=1, epochs=5).differences(vowels_recipe(epochs=6)) == [
        "epochs: 6 there, 5 here",
        "seed: 0 there, 1 here",
    ]


def test_mnist_is_the_published_training():
    recipe = mnist_recipe("lstm")
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.weight_decay) == (1e-3, 64, 10, 0.0)
    assert [(spec.hidden_size, spec.activation, spec.dropout_after) for spec in recipe.layers] == [
        (256, "relu", 0.2),
        (256, None, 0.2),
    ]


@pytest.mark.parametrize("make", [vowels_recipe, mnist_recipe])
def test_unknown_names_are_refused(make):
    with pytest.raises(RunError, match="received model 'tcn'; expected one of simple_rnn, lstm, gru"):
        make("tcn")
    with pytest.raises(RunError, match="received execution 'eager'; expected one of dynamic, static"):
        make("lstm", "eager")


@pytest.mark.parametrize("fields", [{}, {"layers": [{"kind": "lstm", "units": 3}]}, {"layers": [], "colour": 1}])
def test_fields_of_no_recipe_are_refused(fields):
    with pytest.raises(RunError, match="no recipe of this version of unspool"):
        Recipe.from_dict(fields)
