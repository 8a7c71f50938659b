"""M2: a few labels, the others summed out; pyro's own example is examples/vae/ss_vae_M2.py."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.optim import Adam
from torch import nn

from benchmarks.in_pyro.data import labelled_minibatches, validation, validation_y


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64 + 10, 128), nn.ReLU(), nn.Linear(128, 2 * 8))
        self.decoder = nn.Sequential(nn.Linear(8 + 10, 128), nn.ReLU(), nn.Linear(128, 64))
        self.classifier = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def model(self, x, y=None):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(8), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(10)), obs=y)
            z = z.expand(*y.shape[:-1], 8)
            logits = self.decoder(torch.cat([z, y], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x, y=None):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            x = x.expand(*y.shape[:-1], 64)
            mu, logvar = self.encoder(torch.cat([x, y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(mu, (logvar / 2).exp()).to_event(1))

    def classify(self, x, y):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)), poutine.scale(scale=10):
            pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)), obs=y)

    def no_guide(self, x, y):
        pass


pyro.set_rng_seed(0)
vae, adam = VAE(), Adam({"lr": 5e-3})
guide = config_enumerate(vae.guide, "parallel", expand=True)
svi = SVI(vae.model, guide, adam, TraceEnum_ELBO(max_plate_nesting=1))
svi_classifier = SVI(vae.classify, vae.no_guide, adam, Trace_ELBO())
for _ in range(30):
    for x, y, known in labelled_minibatches():
        svi.step(x[~known])
        if known.any():
            svi.step(x[known], y[known])
            svi_classifier.step(x[known], y[known])
bound = -svi.evaluate_loss(validation, validation_y) / len(validation)
print(f"{bound:.2f} nats per image")
