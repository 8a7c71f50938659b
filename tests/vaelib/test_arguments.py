"""Every public function names a wrong argument in a `ValueError`, whatever is wrong with it.

The mistakes are derived from arguments that are right, by their kind: a new function has to be
listed with a call that works, and no mistake with its arguments can be forgotten.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform

import vaelib
from vaelib import networks
from vaelib.baselines.pixelcnn import MaskedConv2d
from vaelib.residual import ResidualBlock, ResidualDecoder, ResidualEncoder

# Values that hold what others have computed, and what is not a function.
UNCHECKED = {
    "ELBO",
    "Estimate",
    "FewLabels",
    "History",
    "InferenceGap",
    "Interrupted",
    "LatentVariableModel",
    "LogLikelihood",
    "NonFiniteError",
}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator())


def _vae() -> vaelib.VAE:
    return vaelib.VAE((1, 4, 4), latent_dim=2, hidden=[3], likelihood="gaussian")


def _linear() -> vaelib.LinearGaussian:
    return vaelib.LinearGaussian(_normal(3, 2), _normal(3), sigma=0.5)


def _ppca() -> vaelib.PPCA:
    return vaelib.PPCA(_linear(), (3,))


def _codes(n: int = 5) -> vaelib.DiagonalGaussian:
    return vaelib.DiagonalGaussian(_normal(n, 2), _normal(n, 2))


def _digits() -> vaelib.Images:
    return vaelib.load_dataset("digits", "test")[:20]


def _binary_digits() -> vaelib.Images:
    return _digits().binarise("static", _generator())


def _autoencoder() -> vaelib.Autoencoder:
    return vaelib.Autoencoder((1, 8, 8), code_dim=3, hidden=[4])


def _adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters())


def _fit(**arguments: Any) -> vaelib.History:
    return vaelib.fit(_vae(), progress=False, **arguments)


def _few_labels(**arguments: Any) -> vaelib.FewLabels:
    return vaelib.few_labels_experiment(_autoencoder(), **arguments)


MODEL = _vae()
GAUSSIANS = {"mu_q": _normal(5, 2), "logvar_q": _normal(5, 2), "mu_p": _normal(5, 2)}
SCALAR_GAUSSIAN = {"mu": torch.tensor(1.0), "sigma": torch.tensor(2.0), "eps": _normal(7)}
EPS = _normal(1, 5, 2)
X = torch.rand(5, 1, 4, 4, generator=_generator())
ROWS = _normal(5, 3)
TOY_X = _normal(5, 1).double()
TOY = vaelib.NonlinearGaussian()

# A function, arguments for which it works, and the derived mistakes that are none for it.
Case = tuple[Callable[..., Any], dict[str, Any], set[str]]

CASES: dict[str, Case] = {
    "VAE": (
        vaelib.VAE,
        {
            "shape": (1, 4, 4),
            "latent_dim": 2,
            "hidden": [3],
            "network": "fully connected",
            "activation": "relu",
            "likelihood": "gaussian",
            "sigma": 0.5,
        },
        {"hidden: empty"},
    ),
    "VAE of convolutions": (
        vaelib.VAE,
        {"shape": (1, 4, 4), "hidden": [3], "network": "convolutional"},
        set(),
    ),
    "VAE of residual networks": (
        vaelib.VAE,
        {
            "shape": (3, 4, 4),
            "hidden": [3],
            "network": "residual",
            "likelihood": "discretised logistic",
        },
        set(),
    ),
    "VAE of one's own networks": (
        vaelib.VAE,
        {
            "shape": (3,),
            "latent_dim": 2,
            "encoder": nn.Linear(3, 4),
            "decoder": nn.Linear(2, 3),
            "likelihood": "gaussian",
        },
        set(),
    ),
    "VAE.forward": (_vae(), {"x": X, "eps": EPS}, set()),
    "Autoencoder": (
        vaelib.Autoencoder,
        {"shape": (1, 4, 4), "code_dim": 2, "hidden": [3], "network": "deep"},
        {"hidden: empty"},
    ),
    "Autoencoder.forward": (_autoencoder(), {"x": torch.rand(5, 1, 8, 8)}, {"x: empty"}),
    "Autoencoder.decode": (_autoencoder().decode, {"h": _normal(5, 3)}, {"h: empty"}),
    "Bernoulli": (
        vaelib.Bernoulli,
        {"logits": _normal(5, 2), "event_dims": 1, "pixels": "binary"},
        {"logits: empty", "logits: other shape", "logits: other dtype", "event_dims: 0"},
    ),
    "Bernoulli.log_prob": (
        lambda x: vaelib.Bernoulli(torch.zeros(5, 2), 1).log_prob(x),
        {"x": torch.ones(5, 2)},
        {"x: integers", "x: other dtype"},
    ),
    "DiscretisedLogistic": (
        vaelib.DiscretisedLogistic,
        {"mean": _normal(5, 2), "log_scale": _normal(5, 2), "event_dims": 1},
        {
            *("mean: empty", "mean: other shape", "mean: other dtype", "event_dims: 0"),
            *("log_scale: scalar", "log_scale: other dtype"),
        },
    ),
    "DiscretisedLogistic.log_prob": (
        lambda x: vaelib.DiscretisedLogistic(torch.zeros(5, 2), torch.zeros(()), 1).log_prob(x),
        {"x": torch.ones(5, 2)},
        {"x: other dtype"},
    ),
    "bits_per_dim": (
        lambda shape: vaelib.bits_per_dim(-1.0, shape),
        {"shape": (3, 4, 4)},
        set(),
    ),
    "Gaussian": (
        vaelib.Gaussian,
        {"mean": _normal(5, 2), "sigma": 0.5, "event_dims": 1},
        {"mean: empty", "mean: other shape", "mean: other dtype", "event_dims: 0"},
    ),
    "Gaussian.log_prob": (
        lambda x: vaelib.Gaussian(torch.zeros(5, 2), 1.0, 1).log_prob(x),
        {"x": _normal(5, 2)},
        {"x: other dtype"},
    ),
    "GaussianEncoder": (
        networks.GaussianEncoder,
        {"body": nn.Linear(3, 4), "shape": (3,)},
        set(),
    ),
    "GaussianEncoder.forward": (
        networks.GaussianEncoder(nn.Linear(3, 4), (3,)),
        {"x": ROWS},
        {"x: empty"},
    ),
    "BernoulliDecoder": (
        vaelib.BernoulliDecoder,
        {"body": nn.Linear(2, 3), "shape": (3,), "pixels": "grey"},
        set(),
    ),
    "BernoulliDecoder.forward": (
        vaelib.BernoulliDecoder(nn.Linear(2, 3), (3,)),
        {"z": _normal(5, 2)},
        {"z: empty"},
    ),
    "DiscretisedLogisticDecoder": (
        vaelib.DiscretisedLogisticDecoder,
        {"body": nn.Linear(2, 6), "shape": (3,)},
        set(),
    ),
    "DiscretisedLogisticDecoder.forward": (
        vaelib.DiscretisedLogisticDecoder(nn.Linear(2, 6), (3,)),
        {"z": _normal(5, 2)},
        {"z: empty"},
    ),
    "DiscretisedLogisticDecoder of residual blocks": (
        vaelib.DiscretisedLogisticDecoder(ResidualDecoder(2, 2, (1, 4, 4), 2), (1, 4, 4)),
        {"z": _normal(5, 2)},
        {"z: empty"},
    ),
    "GaussianDecoder": (
        vaelib.GaussianDecoder,
        {"body": nn.Linear(2, 3), "shape": (3,), "sigma": 0.5},
        set(),
    ),
    "GaussianDecoder.forward": (
        vaelib.GaussianDecoder(nn.Linear(2, 3), (3,)),
        {"z": _normal(5, 2)},
        {"z: empty"},
    ),
    "fully_connected": (
        networks.fully_connected,
        {"sizes": [3, 2], "activation": "tanh"},
        set(),
    ),
    "convolutional_encoder": (
        networks.convolutional_encoder,
        {"shape": (1, 4, 4), "width": 2, "n_features": 3},
        set(),
    ),
    "convolutional_decoder": (
        networks.convolutional_decoder,
        {"n_features": 3, "width": 2, "shape": (1, 4, 4)},
        set(),
    ),
    "ResidualBlock": (ResidualBlock, {"channels": 2}, set()),
    "ResidualEncoder": (
        ResidualEncoder,
        {"shape": (1, 4, 4), "width": 2, "latent_dim": 3},
        set(),
    ),
    "ResidualDecoder": (
        ResidualDecoder,
        {"latent_dim": 3, "width": 2, "shape": (1, 4, 4), "per_pixel": 2},
        set(),
    ),
    "DiagonalGaussian": (
        vaelib.DiagonalGaussian,
        {"mu": _normal(5, 2), "logvar": _normal(5, 2)},
        set(),
    ),
    "DiagonalGaussian.log_prob": (
        _codes().log_prob,
        {"value": _normal(5, 2)},
        {"value: other dtype"},
    ),
    "DiagonalGaussian.reparameterize": (_codes().reparameterize, {"eps": EPS}, {"eps: empty"}),
    "DiagonalGaussian.log_prob_at": (_codes().log_prob_at, {"eps": EPS}, {"eps: empty"}),
    "FullGaussian.log_prob_at": (
        vaelib.FullGaussian(torch.zeros(5, 2), torch.eye(2)).log_prob_at,
        {"eps": EPS},
        {"eps: empty"},
    ),
    "TransformedGaussian": (
        vaelib.TransformedGaussian(_codes(), AffineTransform(1.0, 2.0, event_dim=1)).reparameterize,
        {"eps": EPS},
        "",
    ),
    "TransformedGaussian.log_prob_at": (
        vaelib.TransformedGaussian(_codes(), AffineTransform(1.0, 2.0, event_dim=1)).log_prob_at,
        {"eps": EPS},
        "",
    ),
    "FullGaussian": (
        vaelib.FullGaussian(torch.zeros(5, 2), torch.eye(2)).reparameterize,
        {"eps": EPS},
        {"eps: empty"},
    ),
    "LinearGaussian": (
        vaelib.LinearGaussian,
        {"weight": _normal(3, 2), "mean": _normal(3), "sigma": 0.5},
        {"weight: other shape"},
    ),
    "LinearGaussian.maximum_likelihood": (
        vaelib.LinearGaussian.maximum_likelihood,
        {"x": ROWS, "latent_dim": 1},
        {"x: other dtype", "x: other shape"},
    ),
    "LinearGaussian.log_marginal": (_linear().log_marginal, {"x": ROWS}, {"x: empty"}),
    "LinearGaussian.decoder": (_linear().decoder, {"z": EPS}, {"z: empty"}),
    "LinearGaussian.kl_to_posterior": (
        lambda x: _linear().kl_to_posterior(x, _codes()),
        {"x": ROWS},
        set(),
    ),
    "LinearGaussian.exact_elbo": (
        lambda x: _linear().exact_elbo(x, _codes()),
        {"x": ROWS},
        set(),
    ),
    "LinearGaussian.sample": (_linear().sample, {"n": 3, "generator": 0}, {"generator: 0"}),
    "Arc": (vaelib.Arc, {"device": "cpu"}, set()),
    "Arc.log_marginal": (
        vaelib.Arc().log_marginal,
        {"x": _normal(5, 2).double()},
        {"x: empty"},
    ),
    "NonlinearGaussian": (vaelib.NonlinearGaussian, {"device": "cpu"}, set()),
    "NonlinearGaussian.log_marginal": (TOY.log_marginal, {"x": TOY_X}, {"x: empty"}),
    "NonlinearGaussian.decoder": (
        TOY.decoder,
        {"z": TOY_X},
        {"z: empty", "z: other dtype"},
    ),
    "NonlinearGaussian.sample": (TOY.sample, {"n": 3, "generator": 0}, {"generator: 0"}),
    "PPCA": (
        vaelib.PPCA,
        {"model": _linear(), "shape": (3,)},
        {"shape: number"},
    ),
    "PPCA.fit": (
        vaelib.PPCA.fit,
        {"images": ROWS, "k": 1},
        {"images: other dtype", "images: other shape"},
    ),
    "PPCA.log_prob": (_ppca().log_prob, {"x": ROWS}, {"x: empty", "x: other dtype"}),
    "PPCA.log_prob_8bit": (_ppca().log_prob_8bit, {"x": ROWS}, {"x: empty", "x: other dtype"}),
    "PPCA.reconstruct": (_ppca().reconstruct, {"x": ROWS}, {"x: empty", "x: other dtype"}),
    "PPCA.sample": (lambda n: _ppca().sample(n, _generator()), {"n": 3}, set()),
    "PPCA.initialise": (
        vaelib.PPCA.fit(X, 2).initialise,
        {"vae": vaelib.VAE((1, 4, 4), 2, [2], network="residual", likelihood="gaussian")},
        set(),
    ),
    "PixelCNN": (
        vaelib.PixelCNN,
        {"shape": (1, 4, 4), "channels": 2, "layers": 1, "size": 3},
        set(),
    ),
    "PixelCNN.log_prob": (
        vaelib.PixelCNN((1, 4, 4), 2, 1).log_prob,
        {"x": X.round()},
        {"x: empty"},
    ),
    "PixelCNN.sample": (
        lambda n: vaelib.PixelCNN((1, 4, 4), 2, 1).sample(n, _generator()),
        {"n": 3},
        set(),
    ),
    "MaskedConv2d": (
        MaskedConv2d,
        {"n_in": 1, "n_out": 2, "size": 3, "mask": "A"},
        set(),
    ),
    "Classifier": (
        vaelib.Classifier,
        {"shape": (1, 4, 4), "classes": 3, "width": 2, "features": 4},
        set(),
    ),
    "Classifier.forward": (
        vaelib.Classifier((1, 4, 4), width=2, features=4),
        {"x": X},
        {"x: empty"},
    ),
    "frechet_distance": (
        vaelib.frechet_distance,
        {"a": _normal(5, 3), "b": _normal(7, 3)},
        {"a: other dtype", "b: other dtype"},
    ),
    "pretrained": (
        vaelib.pretrained,
        {"name": "mnist-classifier", "device": "cpu"},
        set(),
    ),
    "GAN": (vaelib.GAN, {"shape": (1, 4, 4), "latent_dim": 2, "width": 2}, set()),
    "GAN.sample": (
        lambda n: vaelib.GAN((1, 4, 4), 2, 2).sample(n, _generator()),
        {"n": 3},
        set(),
    ),
    "Images": (
        vaelib.Images,
        {
            "pixels": _digits().pixels,
            "labels": _digits().labels,
            "name": "mine",
            "split": "train",
            "convention": "grey",
        },
        {
            "labels: None",
            "name: nonsense",
            "name: number",
            "split: nonsense",
            "split: number",
            "pixels: other shape",
        },
    ),
    "Images.batches": (
        lambda **arguments: _digits().batches(**arguments),
        {"batch_size": 3, "generator": 0},
        {"generator: 0"},
    ),
    "Images.floats": (
        lambda generator: _digits().binarise("dynamic").floats(generator),
        {"generator": 0},
        {"generator: 0", "generator: None"},
    ),
    "Images.from_array": (
        vaelib.Images.from_array,
        {
            "array": X,
            "labels": torch.arange(5),
            "channels": "first",
            "scale": (-1.0, 2.0),
            "name": "mine",
        },
        {
            "array: no tensor",
            "array: other dtype",
            "array: other shape",
            "array: empty",
            "array: integers",
            "labels: no tensor",
            "name: nonsense",
            "name: number",
        },
    ),
    "Images.random_split": (
        lambda **arguments: _digits().random_split(**arguments),
        {"generator": 0, "train": 0.5, "validation": 0.25, "test": 0.25},
        {"generator: 0"},
    ),
    "Images.binarise": (
        lambda **arguments: _digits().binarise(**arguments),
        {"convention": "static", "generator": 0},
        {"generator: 0"},
    ),
    "LatentExplorer": (
        lambda **arguments: vaelib.LatentExplorer(_vae(), **arguments),
        {"codes": _normal(5, 2), "labels": torch.arange(5)},
        {"codes: other dtype"},
    ),
    "Scaling.apply": (
        vaelib.Scaling(torch.zeros(3), torch.ones(3)).apply,
        {"x": ROWS},
        {"x: other dtype", "x: integers", "x: nan in it", "x: inf in it", "x: empty"},
    ),
    "Scaling.undo": (
        vaelib.Scaling(torch.zeros(3), torch.ones(3)).undo,
        {"x": ROWS},
        {"x: other dtype", "x: nan in it", "x: inf in it", "x: empty"},
    ),
    "active_units": (
        lambda threshold: vaelib.active_units(_codes(), threshold),
        {"threshold": 0.01},
        set(),
    ),
    "bernoulli_log_likelihood": (
        vaelib.bernoulli_log_likelihood,
        {"logits": _normal(5, 2), "x": torch.ones(5, 2)},
        {"logits: other dtype", "x: other dtype"},
    ),
    "effective_sample_size": (
        vaelib.effective_sample_size,
        {"log_w": _normal(4, 5)},
        {"log_w: other dtype", "log_w: other shape"},
    ),
    "evaluate_elbo": (
        lambda images, **rest: vaelib.evaluate_elbo(_vae(), images, **rest),
        {"images": X, "generator": 0, "samples": 2, "batch_size": 3},
        {"images: other dtype", "generator: 0"},
    ),
    "evidence_lower_bound": (
        lambda x, eps: vaelib.evidence_lower_bound(_vae(), x, eps),
        {"x": X, "eps": EPS},
        set(),
    ),
    "few_labels_experiment": (
        _few_labels,
        {
            "train": _digits(),
            "test": _digits(),
            "n_labels": [5],
            "seeds": [0],
            "steps": [1],
            "batch_size": 2,
            "learning_rate": 0.1,
        },
        {"seeds: 0 in it"},
    ),
    "fit": (
        _fit,
        {
            "train": X,
            "validation": X,
            "epochs": 1,
            "batch_size": 3,
            "learning_rate": 0.1,
            "samples": 1,
            "seed": 0,
            "device": "cpu",
            "precision": "float32",
            "beta": 1.0,
            "patience": 1,
        },
        {
            "train: other dtype",
            "validation: other dtype",
            "seed: 0",
            "patience: None",
        },
    ),
    "fit_autoencoder": (
        lambda images, **rest: vaelib.fit_autoencoder(_autoencoder(), images, **rest),
        {
            "images": _digits(),
            "generator": 0,
            "epochs": 1,
            "batch_size": 5,
            "learning_rate": 0.1,
        },
        {"generator: 0"},
    ),
    "fit_classifier": (
        lambda images, **numbers: vaelib.fit_classifier(
            vaelib.Classifier((1, 8, 8), width=2, features=4), images, _generator(), **numbers
        ),
        {"images": _digits(), "epochs": 1, "batch_size": 5, "learning_rate": 0.1, "shift": 1},
        {"shift: 0"},
    ),
    "fit_gan": (
        lambda images, **numbers: vaelib.fit_gan(
            vaelib.GAN((1, 8, 8), 2, 2), images, _generator(), **numbers
        ),
        {"images": _digits(), "epochs": 1, "batch_size": 5, "learning_rate": 0.1},
        set(),
    ),
    "fit_pixelcnn": (
        lambda images, **numbers: vaelib.fit_pixelcnn(
            vaelib.PixelCNN((1, 8, 8), 2, 1), images, _generator(), **numbers
        ),
        {"images": _binary_digits(), "epochs": 1, "batch_size": 5, "learning_rate": 0.1},
        set(),
    ),
    "fit_posterior": (
        lambda x, **numbers: vaelib.fit_posterior(_vae(), x, _generator(), **numbers),
        {"x": X, "steps": 2, "samples": 1, "learning_rate": 0.1},
        {"x: empty"},
    ),
    "gaussian_log_likelihood": (
        vaelib.gaussian_log_likelihood,
        {"mean": _normal(5, 2), "x": _normal(5, 2), "sigma": 0.5},
        {"mean: other dtype", "x: other dtype"},
    ),
    "importance_weighted_bound": (
        vaelib.importance_weighted_bound,
        {"log_w": _normal(4, 5)},
        {"log_w: other dtype", "log_w: other shape"},
    ),
    "importance_weighted_elbo": (
        lambda x, eps: vaelib.importance_weighted_elbo(_vae(), x, eps),
        {"x": X, "eps": EPS},
        set(),
    ),
    "inference_gap": (
        lambda x, log_marginal, **numbers: vaelib.inference_gap(
            _vae(), x, log_marginal, _generator(), **numbers
        ),
        {"x": X, "log_marginal": _normal(5), "steps": 2, "samples": 1},
        {"log_marginal: other dtype"},
    ),
    "initialise_classifier": (
        lambda **numbers: vaelib.initialise_classifier(_autoencoder(), **numbers),
        {"code_dim": 3, "n_classes": 10},
        set(),
    ),
    "interpolate": (
        vaelib.interpolate,
        {"z_start": _normal(3), "z_end": _normal(3), "steps": 4},
        set(),
    ),
    "interpolate_spherical": (
        vaelib.interpolate_spherical,
        {"z_start": _normal(3), "z_end": -_normal(4)[1:], "steps": 4},
        set(),
    ),
    "kl_between_gaussians": (
        vaelib.kl_between_gaussians,
        {**GAUSSIANS, "logvar_p": _normal(5, 2)},
        {f"{name}: other dtype" for name in (*GAUSSIANS, "logvar_p")},
    ),
    "kl_divergence": (vaelib.kl_divergence, {"q": _codes(), "p": _codes()}, set()),
    "kl_monte_carlo": (
        vaelib.kl_monte_carlo,
        {"q": _codes(), "p": _codes(), "n_samples": 3},
        set(),
    ),
    "kl_terms": (vaelib.kl_terms, {"q": _codes(), "p": _codes()}, set()),
    "kl_to_standard_normal": (
        vaelib.kl_to_standard_normal,
        {"mu": _normal(5, 2), "logvar": _normal(5, 2)},
        set(),
    ),
    "latent_grid": (
        vaelib.latent_grid,
        {"n": 3, "tail": 0.1, "device": "cpu"},
        set(),
    ),
    "linear_autoencoder_weights": (
        vaelib.linear_autoencoder_weights,
        {"x": ROWS, "k": 2},
        {"x: other dtype", "x: other shape"},
    ),
    "linear_probe": (
        vaelib.linear_probe,
        {
            "train_features": _normal(4, 2),
            "train_labels": torch.tensor([0, 1, 0, 1]),
            "test_features": _normal(5, 2),
            "test_labels": torch.tensor([0, 1, 0, 1, 1]),
        },
        {"train_features: other dtype", "test_features: other dtype"},
    ),
    "load_dataset": (
        vaelib.load_dataset,
        {"name": "digits", "split": "test", "device": "cpu"},
        set(),
    ),
    "load_vae": (
        lambda device: vaelib.load_vae("vae.pt", device),
        {"device": "cpu"},
        set(),
    ),
    "log_aggregate_posterior": (
        lambda z: vaelib.log_aggregate_posterior(_codes(), z),
        {"z": _normal(7, 2)},
        {"z: other dtype", "z: empty"},
    ),
    "log_likelihood": (
        lambda images, **rest: vaelib.log_likelihood(_vae(), images, **rest),
        {"images": X, "generator": 0, "samples": 2, "chunk_size": 3},
        {"images: other dtype", "generator: 0", "chunk_size: None"},
    ),
    "log_marginal_monte_carlo": (
        vaelib.log_marginal_monte_carlo,
        {"log_likelihood": _normal(4, 5)},
        {"log_likelihood: other dtype", "log_likelihood: other shape"},
    ),
    "log_weights": (
        lambda x, eps: vaelib.log_weights(_vae(), x, eps),
        {"x": X, "eps": EPS},
        set(),
    ),
    "manifold": (
        lambda **numbers: vaelib.manifold(_vae(), **numbers),
        {"n": 3, "tail": 0.1},
        set(),
    ),
    "mutual_information": (
        lambda **rest: vaelib.mutual_information(_codes(), **rest),
        {"generator": 0, "samples": 2},
        {"generator: 0"},
    ),
    "noise": (
        vaelib.noise,
        {"shape": (2, 3), "generator": 0, "like": X},
        {
            "shape: empty",
            "shape: 0 in it",
            "generator: 0",
            "like: other dtype",
            "like: other shape",
            "like: scalar",
            "like: empty",
            "like: nan in it",
            "like: inf in it",
        },
    ),
    "pathwise_gradient": (
        lambda **rest: vaelib.pathwise_gradient(torch.square, **rest),
        SCALAR_GAUSSIAN,
        {"eps: other shape"},
    ),
    "pathwise_terms": (
        lambda **rest: vaelib.pathwise_terms(torch.square, **rest),
        SCALAR_GAUSSIAN,
        {"eps: other shape"},
    ),
    "random_codes": (
        vaelib.random_codes,
        {"codes": _normal(5, 2), "n": 3, "generator": 0},
        {"codes: other dtype", "codes: other shape", "generator: 0"},
    ),
    "reconstruct": (
        lambda x, eps: vaelib.reconstruct(_vae(), x, eps),
        {"x": X, "eps": EPS},
        {"eps: empty"},
    ),
    "reconstruction_error": (
        vaelib.reconstruction_error,
        {"x": ROWS, "x_hat": ROWS + 1},
        set(),
    ),
    "reparameterize": (
        vaelib.reparameterize,
        {"mu": _normal(5, 2), "logvar": _normal(5, 2), "eps": EPS},
        {"eps: empty"},
    ),
    "sample_gaussian": (
        vaelib.sample_gaussian,
        {"mu": _normal(5, 2), "covariance": torch.eye(2), "eps": _normal(5, 2)},
        set(),
    ),
    "sample_prior": (
        lambda **rest: vaelib.sample_prior(_vae(), **rest),
        {"n": 3, "generator": 0},
        {"generator: 0"},
    ),
    "save_vae": (lambda model: vaelib.save_vae(model, "vae.pt"), {"model": _vae()}, set()),
    "score_function_gradient": (
        lambda **rest: vaelib.score_function_gradient(torch.square, **rest),
        {**SCALAR_GAUSSIAN, "baseline": 0.5},
        {"eps: other shape", "baseline: negative"},
    ),
    "score_function_terms": (
        lambda **rest: vaelib.score_function_terms(torch.square, **rest),
        {**SCALAR_GAUSSIAN, "baseline": 0.5},
        {"eps: other shape", "baseline: negative"},
    ),
    "sharpness": (
        vaelib.sharpness,
        {"images": X},
        {"images: other dtype", "images: other shape"},
    ),
    "standardise": (
        vaelib.standardise,
        {"table": ROWS},
        {"table: other dtype", "table: other shape", "table: integers"},
    ),
    "training_step": (
        lambda **rest: vaelib.training_step(MODEL, _adam(MODEL), **rest),
        {
            "x": X,
            "eps": EPS,
            "beta": 1.0,
            "precision": "float32",
            "size": 5.0,
        },
        set(),
    ),
}


def _mistakes(value: Any) -> Iterator[tuple[str, Any]]:
    """What may be wrong with an argument for which `value` is right."""
    match value:
        case Tensor() if value.is_floating_point():
            yield "no tensor", [1.0]
            yield "integers", value.long()
            yield "other dtype", value.float() if value.dtype == torch.float64 else value.double()
            for wrong in (math.nan, math.inf):
                spoilt = value.clone()
                spoilt.view(-1)[-1] = wrong
                yield f"{wrong} in it", spoilt
            if value.dim():
                yield "other shape", torch.cat([value, value[..., :1]], -1)
                yield "scalar", value.sum()
                yield "empty", value[:0]
        case Tensor():
            yield "no tensor", [1]
            yield "floats", value.float()
            yield "other shape", value[1:]
        case vaelib.Images():
            yield "no images", value.pixels
            yield "empty", value[:0]
        case bool() | None:
            pass
        case int():
            yield from (("0", 0), ("negative", -1), ("fraction", 1.5), ("whole float", 1.0))
            yield from (("nan", math.nan), ("bool", True), ("text", "3"), ("None", None))
        case float():
            yield from (("negative", -1.0), ("nan", math.nan), ("infinity", math.inf))
            yield from (("text", "much"), ("complex", 1j))
        case str():
            yield from (("nonsense", "nonsense"), ("number", 3))
        case tuple() | list():
            yield from (("empty", []), ("number", 3), ("text", "3"), ("0 in it", [0]))
            yield from (("negative in it", [-1]), ("fraction in it", [1.5]))
        case nn.Module():
            yield "no network", torch.square
        case torch.distributions.Distribution():
            yield "other shape", _codes(4)


MISTAKES = [
    pytest.param(name, argument, wrong, id=f"{name} {argument}: {mistake}")
    for name, (_, valid, legal) in CASES.items()
    for argument, value in valid.items()
    for mistake, wrong in _mistakes(value)
    if f"{argument}: {mistake}" not in legal
]


@pytest.fixture(autouse=True)
def saved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vaelib.save_vae(MODEL, "vae.pt")


@pytest.mark.parametrize("name", CASES)
def test_the_arguments_are_right(name: str) -> None:
    function, valid, _ = CASES[name]
    function(**valid)


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_numpy_are_right_too(name: str) -> None:
    function, valid, _ = CASES[name]
    function(**{argument: _of_numpy(value) for argument, value in valid.items()})


def _of_numpy(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int():
            return np.int64(value)
        case float():
            return np.float64(value)
        case tuple() | list():
            return type(value)(map(_of_numpy, value))
    return value


@pytest.mark.parametrize(("name", "argument", "wrong"), MISTAKES)
def test_a_wrong_argument_is_named(name: str, argument: str, wrong: Any) -> None:
    function, valid, _ = CASES[name]
    names = {argument, "x"} if argument == "images" else {argument}
    # Of two that do not fit each other either may be named.
    if isinstance(wrong, Tensor) and wrong.shape != valid[argument].shape:
        names |= set(valid)
    with pytest.raises(ValueError, match="|".join(rf"\b{name}\b" for name in names)):
        function(**{**valid, argument: wrong})


def test_no_public_function_is_forgotten() -> None:
    assert {name.split(".")[0] for name in CASES} >= set(vaelib.__all__) - UNCHECKED
