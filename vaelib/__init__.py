"""Variational autoencoders in PyTorch, one lecture topic per module.

Read the modules in this order: `autoencoder`, `few_labels`, `latent_variable`, `linear_gaussian`,
`elbo`, `inference_gap`, `kl`, `reparameterization`, `training`, `generation`, `evaluation`,
`codes`, `baselines`. They use `data`, `networks`, `residual`, `likelihood`, `vae`, `plots`,
`explorer` and `pretrained`.

Users may rely on the names listed here. Log-likelihoods, divergences and bounds are in nats.
"""

from vaelib.autoencoder import (
    Autoencoder,
    fit_autoencoder,
    linear_autoencoder_weights,
    random_codes,
    reconstruction_error,
)
from vaelib.baselines import (
    GAN,
    PPCA,
    Classifier,
    PixelCNN,
    fit_classifier,
    fit_gan,
    fit_pixelcnn,
    frechet_distance,
)
from vaelib.checkpoint import (
    load_vae,
    save_vae,
)
from vaelib.codes import (
    Estimate,
    active_units,
    linear_probe,
    log_aggregate_posterior,
    mutual_information,
)
from vaelib.data import (
    Images,
    load_dataset,
)
from vaelib.elbo import (
    ELBO,
    LatentVariableModel,
    effective_sample_size,
    evidence_lower_bound,
    importance_weighted_bound,
    importance_weighted_elbo,
    log_marginal_monte_carlo,
    log_weights,
)
from vaelib.evaluation import (
    LogLikelihood,
    evaluate_elbo,
    log_likelihood,
    sharpness,
)
from vaelib.explorer import LatentExplorer
from vaelib.few_labels import (
    FewLabels,
    few_labels_experiment,
    initialise_classifier,
)
from vaelib.flow import TransformedGaussian
from vaelib.generation import (
    interpolate,
    interpolate_spherical,
    latent_grid,
    manifold,
    reconstruct,
    sample_prior,
)
from vaelib.history import History, Interrupted, NonFiniteError
from vaelib.inference_gap import InferenceGap, fit_posterior, inference_gap
from vaelib.kl import (
    kl_between_gaussians,
    kl_divergence,
    kl_monte_carlo,
    kl_terms,
    kl_to_standard_normal,
)
from vaelib.latent_variable import Arc, NonlinearGaussian
from vaelib.likelihood import (
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    bernoulli_log_likelihood,
    bits_per_dim,
    gaussian_log_likelihood,
)
from vaelib.linear_gaussian import LinearGaussian
from vaelib.networks import (
    BernoulliDecoder,
    DiscretisedLogisticDecoder,
    GaussianDecoder,
    GaussianEncoder,
)
from vaelib.pretrained import pretrained
from vaelib.reparameterization import (
    DiagonalGaussian,
    FullGaussian,
    noise,
    pathwise_gradient,
    pathwise_terms,
    reparameterize,
    sample_gaussian,
    score_function_gradient,
    score_function_terms,
)
from vaelib.scaling import Scaling, standardise
from vaelib.training import (
    fit,
    training_step,
)
from vaelib.vae import VAE

__version__ = "0.1.0"

__all__ = [
    "Arc",
    "ELBO",
    "GAN",
    "PPCA",
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "BernoulliDecoder",
    "Classifier",
    "DiagonalGaussian",
    "DiscretisedLogistic",
    "DiscretisedLogisticDecoder",
    "Estimate",
    "FewLabels",
    "FullGaussian",
    "Gaussian",
    "GaussianDecoder",
    "GaussianEncoder",
    "History",
    "Images",
    "InferenceGap",
    "Interrupted",
    "LatentExplorer",
    "LatentVariableModel",
    "LinearGaussian",
    "LogLikelihood",
    "NonFiniteError",
    "NonlinearGaussian",
    "PixelCNN",
    "Scaling",
    "TransformedGaussian",
    "active_units",
    "bernoulli_log_likelihood",
    "bits_per_dim",
    "effective_sample_size",
    "evaluate_elbo",
    "evidence_lower_bound",
    "few_labels_experiment",
    "fit",
    "fit_autoencoder",
    "fit_classifier",
    "fit_gan",
    "fit_pixelcnn",
    "fit_posterior",
    "frechet_distance",
    "gaussian_log_likelihood",
    "importance_weighted_bound",
    "importance_weighted_elbo",
    "inference_gap",
    "initialise_classifier",
    "interpolate",
    "interpolate_spherical",
    "kl_between_gaussians",
    "kl_divergence",
    "kl_monte_carlo",
    "kl_terms",
    "kl_to_standard_normal",
    "latent_grid",
    "linear_autoencoder_weights",
    "linear_probe",
    "load_dataset",
    "load_vae",
    "log_aggregate_posterior",
    "log_likelihood",
    "log_marginal_monte_carlo",
    "log_weights",
    "manifold",
    "mutual_information",
    "noise",
    "pathwise_gradient",
    "pathwise_terms",
    "pretrained",
    "random_codes",
    "reconstruct",
    "reconstruction_error",
    "reparameterize",
    "sample_gaussian",
    "sample_prior",
    "save_vae",
    "score_function_gradient",
    "score_function_terms",
    "sharpness",
    "standardise",
    "training_step",
]
