"""Law 10. Public results are values: reproducible, safe to use from any thread, and pickled by path and digest."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import modelkit as mk


def test_equal_models_give_equal_bytes(boosting, breast_cancer, boosting_mk, tmp_path):
    mk.save(
        boosting,
        tmp_path / "again.mk",
        example=breast_cancer[0],
        name="breast-cancer",
        version="1.0.0",
    )
    assert (tmp_path / "again.mk").read_bytes() == boosting_mk.read_bytes()


def outputs(model, rows):
    return {name: array.tolist() for name, array in model.run(rows).items()}


def test_a_loaded_model_is_pickled_by_its_path_and_digest(loaded):
    kept = pickle.dumps(loaded.model)
    assert len(kept) < 2000
    with pickle.loads(kept) as again:
        assert again.manifest == loaded.model.manifest
        assert outputs(again, loaded.rows) == outputs(loaded.model, loaded.rows)


def test_the_same_rows_get_the_same_answer_from_any_thread(bare):
    expected = outputs(bare.model, bare.rows)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: outputs(bare.model, bare.rows), range(8)):
            assert got == expected


def test_an_explanation_and_a_report_follow_from_their_inputs_and_seed(boosting_mk, breast_cancer):
    rows = breast_cancer[0]
    profile = mk.Profile.fit(rows)
    with mk.load(boosting_mk) as model:
        both = [
            (
                mk.Explainer(model, background=rows[:20], method="sampling", seed=3)
                .explain(rows[:2])
                .to_json(),
                mk.Detector(profile, seed=3, clock=lambda: 0.0).test(rows[:100]).to_json(),
            )
            for _ in range(2)
        ]
    assert both[0] == both[1]


def test_equal_calls_of_an_exact_explanation_are_equal_though_random_rows_prove_it(
    boosting_mk, breast_cancer
):
    rows = breast_cancer[0]
    with mk.load(boosting_mk) as model:
        explainer = mk.Explainer(model, background=rows[:20])
        first = explainer.explain(rows[:16])
        assert first.exact
        assert {explainer.explain(rows[:16]).to_json() for _ in range(20)} == {first.to_json()}
