"""A classifier on a trained encoder, and a fair experiment on how many labels it needs."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor, nn

from vaelib.autoencoder import Autoencoder, fit_autoencoder
from vaelib.data import Images, load_dataset
from vaelib.few_labels import balanced_subset, few_labels_experiment, initialise_classifier


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Parameters are drawn from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def digits(device: torch.device) -> Images:
    return load_dataset("digits", device=device)


@pytest.fixture(scope="module")
def trained(device: torch.device, digits: Images) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = Autoencoder(digits.shape, code_dim=16, hidden=[64, 32]).to(device)
    fit_autoencoder(autoencoder, digits, torch.Generator().manual_seed(0), epochs=20)
    return autoencoder


# The classifier


def test_a_classifier_shares_the_encoder_and_nothing_else(device):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, hidden=[7]).to(device)
    random_state = torch.get_rng_state()
    classifier = initialise_classifier(autoencoder, 5, 3)
    assert torch.equal(torch.get_rng_state(), random_state)
    shared = {id(p) for p in autoencoder.encoder.parameters()}
    own = {id(p) for p in classifier.parameters()}
    assert shared < own
    assert sorted(p.shape for p in classifier.parameters() if id(p) not in shared) == [(3,), (3, 5)]
    assert not own & {id(p) for p in autoencoder.decoder.parameters()}


def test_classes_begin_equal_and_fine_tuning_is_joint(device):
    autoencoder = Autoencoder((1, 8, 8), code_dim=5, hidden=[7]).to(device)
    classifier = initialise_classifier(autoencoder, 5, 3)
    x, labels = torch.rand(30, 1, 8, 8, device=device), torch.arange(30, device=device) % 3
    assert torch.equal(classifier(x), torch.zeros(30, 3, device=device))
    codes = autoencoder.encode(x).detach()
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    for _ in range(2):  # in the first step the new layer moves, from the second on all do
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(x), labels).backward()
        optimizer.step()
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not torch.equal(autoencoder.encode(x), codes)


def test_a_classifier_keeps_the_encoders_dtype():
    autoencoder = Autoencoder((6,), code_dim=5, hidden=[7]).double()
    logits = initialise_classifier(autoencoder, 5, 3)(torch.rand(2, 6, dtype=torch.float64))
    assert logits.dtype == torch.float64


def test_a_classifier_that_cannot_be_is_named():
    autoencoder = Autoencoder((6,), code_dim=5, hidden=[7])
    with pytest.raises(ValueError, match="code_dim must be 5, the encoder's, not 4"):
        initialise_classifier(autoencoder, 4, 3)
    with pytest.raises(ValueError, match="n_classes must be an integer of at least 2, not 1"):
        initialise_classifier(autoencoder, 5, 1)


# Few labels


@pytest.mark.parametrize("n", [1, 3, 10, 11, 14, 20])
def test_a_subset_is_balanced_as_far_as_there_are_examples(device, generator, n):
    labels = torch.tensor([0] * 9 + [1] * 2 + [2] * 9, device=device)
    chosen = balanced_subset(labels, n, generator)
    assert len(chosen.unique()) == n
    counts = labels[chosen].bincount(minlength=3)
    assert sum(counts) == n
    assert counts[1] == 2 or counts.max() - counts.min() <= 1
    assert abs(counts[0] - counts[2]) <= 1


def test_subsets_are_nested_random_and_replay(device):
    labels = torch.arange(40, device=device) % 4

    def chosen(n: int, seed: int) -> Tensor:
        return balanced_subset(labels, n, torch.Generator().manual_seed(seed))

    assert torch.equal(chosen(20, 0)[:7], chosen(7, 0))
    assert not torch.equal(chosen(20, 0), chosen(20, 1))
    # 4,000 subsets of 8 out of 40: each example comes with probability 1/5, whatever its place.
    comes = torch.stack([torch.isin(torch.arange(40), chosen(8, s).cpu()) for s in range(4_000)])
    assert_mean_equals(comes.float(), 0.2)


@pytest.mark.parametrize("n", [0, 5])
def test_a_subset_that_cannot_be_is_named(generator, device, n):
    with pytest.raises(ValueError, match=f"n must be .*not {n}"):
        balanced_subset(torch.zeros(4, dtype=torch.int64, device=device), n, generator)


def experiment(trained: Autoencoder, digits: Images, **arguments):
    test = load_dataset("digits", "test", device=digits.pixels.device)
    defaults = {"n_labels": [10, 40], "seeds": [0, 1], "steps": [1, 4]}
    return few_labels_experiment(trained, digits, test, **{**defaults, **arguments})


@pytest.mark.slow
def test_pretraining_helps_with_few_labels(trained, digits):
    result = experiment(trained, digits, n_labels=[10, 20], seeds=range(20), steps=[10, 50])
    gain = (result.random - result.pretrained)[:, :, -1].double()
    # Paired differences over seeds, at least three standard errors above zero.
    assert bool((gain.mean(1) > 3 * gain.std(1) / 20**0.5).all()), gain
    # Both learn, and both learn more from more labels.
    for errors in (result.random, result.pretrained):
        means = errors.mean(1)
        assert bool((means[:, 1] < means[:, 0]).all())
        assert means[1, 1] < means[0, 1] < 0.6


def test_results_replay_and_leave_everything_as_it_was(trained, digits):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    random_state = torch.get_rng_state()
    result, again = experiment(trained, digits), experiment(trained, digits)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert (result.n_labels, result.steps) == ((10, 40), (1, 4))
    for errors, errors_again in (
        (result.random, again.random),
        (result.pretrained, again.pretrained),
    ):
        assert errors.shape == (2, 2, 2)
        assert torch.equal(errors, errors_again)
        assert bool(((errors >= 0) & (errors <= 1)).all())
        assert not torch.equal(errors[:, 0], errors[:, 1]), "seeds make no difference"


def test_measuring_more_often_changes_no_result(trained, digits):
    often, once = experiment(trained, digits, steps=[1, 2, 4]), experiment(trained, digits)
    assert torch.equal(often.random[:, :, [0, 2]], once.random)
    assert torch.equal(often.pretrained[:, :, [0, 2]], once.pretrained)


def test_each_cell_depends_on_its_own_seed_and_labels_alone(trained, digits):
    table = experiment(trained, digits)
    cell = experiment(trained, digits, n_labels=[40], seeds=[1])
    assert torch.equal(cell.random[0, 0], table.random[1, 1])
    assert torch.equal(cell.pretrained[0, 0], table.pretrained[1, 1])


def test_the_random_arm_knows_nothing_of_the_training(trained, digits):
    torch.manual_seed(5)
    untrained = Autoencoder(digits.shape, code_dim=16, hidden=[64, 32]).to(digits.pixels.device)
    assert torch.equal(experiment(trained, digits).random, experiment(untrained, digits).random)


def test_an_error_is_the_share_of_wrong_answers(trained, digits):
    # Without learning, the pre-trained arm's equal logits all answer class 0.
    result = experiment(trained, digits, learning_rate=1e-300)  # 0 to a float32
    test = load_dataset("digits", "test", device=digits.pixels.device)
    share = (test.labels != 0).float().mean().cpu()
    torch.testing.assert_close(result.pretrained, share.expand(2, 2, 2))


def test_an_autoencoder_in_double_precision_gives_the_same_errors(trained, digits):
    # Equal logits at the start: an image near the border between classes may change sides.
    single, double = (
        experiment(trained, digits),
        experiment(copy.deepcopy(trained).double(), digits),
    )
    torch.testing.assert_close(single.pretrained, double.pretrained, rtol=0, atol=0.03)


@pytest.mark.parametrize("steps", [[], [5, 5], [5, 2]])
def test_steps_that_do_not_increase_are_named(trained, digits, steps):
    with pytest.raises(ValueError, match="steps must hold at least one number, each greater"):
        experiment(trained, digits, steps=steps)


def test_dynamic_images_are_named(trained, digits):
    with pytest.raises(ValueError, match=r"^train must be grey or static, not dynamic"):
        experiment(trained, digits.binarise("dynamic"))
    with pytest.raises(ValueError, match=r"^test must be grey or static, not dynamic"):
        few_labels_experiment(trained, digits, digits.binarise("dynamic"))


def test_more_labels_than_there_are_is_named(trained, digits):
    with pytest.raises(ValueError, match=rf"n_labels must be at most {len(digits)}, .*not 2000"):
        experiment(trained, digits, n_labels=[2000])


def test_measuring_leaves_the_mode_as_it_was():
    images = load_dataset("digits", "test")[:40]
    few = {"n_labels": [4], "seeds": [0], "steps": [2]}
    results = []
    for mode in (True, False):
        torch.manual_seed(0)
        autoencoder = Autoencoder(images.shape, code_dim=3, hidden=[8])
        autoencoder.encoder.append(nn.BatchNorm1d(3))
        autoencoder.train(mode)
        results.append(few_labels_experiment(autoencoder, images, images[:1], **few))
        assert autoencoder.training == autoencoder.encoder[-1].training == mode
    assert torch.equal(results[0].pretrained, results[1].pretrained)


def test_an_integer_is_a_seed():
    labels = torch.arange(6) % 2
    drawn = balanced_subset(labels, 4, torch.Generator().manual_seed(7))
    assert torch.equal(balanced_subset(labels, 4, 7), drawn)
    with pytest.raises(ValueError, match=r"^generator must be"):
        balanced_subset(labels, 4, -7)
