"""A flow posterior: an inverse autoregressive flow after the Gaussian."""

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

from benchmarks.in_pyro.data import minibatches, validation


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 8))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
        flows = [transforms.conditional_affine_autoregressive(8, 16, [64, 64]) for _ in range(2)]
        self.flows = nn.ModuleList(flows)

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(8), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        h = self.encoder(x)
        mu, logvar = h.chunk(2, -1)
        base = dist.Normal(mu, (logvar / 2).exp()).to_event(1)
        q = dist.ConditionalTransformedDistribution(base, list(self.flows)).condition(h)
        with pyro.plate("images", len(x)):
            pyro.sample("z", q)


pyro.set_rng_seed(0)
vae = VAE()
svi = SVI(vae.model, vae.guide, Adam({"lr": 5e-3}), Trace_ELBO())
for _ in range(20):
    for x in minibatches():
        svi.step(x)
bound = -svi.evaluate_loss(validation) / len(validation)
print(f"{bound:.2f} nats per image")
