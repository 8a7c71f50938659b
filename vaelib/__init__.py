"""Variational autoencoders in PyTorch, one lecture topic per module.

Read the modules in this order: `autoencoder`, `latent_variable`, `elbo`, `kl`,
`reparameterization`, `training`, `generation`, `evaluation`, `baselines`. They use `data`,
`networks`, `residual`, `likelihood`, `vae`, `plots`, `explorer` and `pretrained`.

Users may rely on the names listed here. Log-likelihoods, divergences and bounds are in nats.
"""

from vaelib.autoencoder import (
    Autoencoder,
    FewLabels,
    few_labels_experiment,
    fit_autoencoder,
    initialise_classifier,
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
from vaelib.data import (
    Images,
    load_dataset,
)
from vaelib.elbo import (
    ELBO,
    InferenceGap,
    LatentVariableModel,
    effective_sample_size,
    evidence_lower_bound,
    fit_posterior,
    importance_weighted_bound,
    importance_weighted_elbo,
    inference_gap,
    log_marginal_monte_carlo,
    log_weights,
)
from vaelib.evaluation import (
    Estimate,
    LogLikelihood,
    active_units,
    evaluate_elbo,
    linear_probe,
    log_aggregate_posterior,
    log_likelihood,
    mutual_information,
    sharpness,
)
from vaelib.explorer import LatentExplorer
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
from vaelib.kl import (
    kl_between_gaussians,
    kl_divergence,
    kl_monte_carlo,
    kl_terms,
    kl_to_standard_normal,
)
from vaelib.latent_variable import Arc, LinearGaussian, NonlinearGaussian
from vaelib.likelihood import (
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    bernoulli_log_likelihood,
    bits_per_dim,
    gaussian_log_likelihood,
)
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
