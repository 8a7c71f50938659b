"""Free bits: a loss of one's own from the two traces."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import Adam
from torch import nn
from torch.distributions import kl_divergence

from benchmarks.in_pyro.data import minibatches, validation


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 8))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(8), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        mu, logvar = self.encoder(x).chunk(2, -1)
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(mu, (logvar / 2).exp()).to_event(1))


def free_bits(model, guide, x):
    q = poutine.trace(guide).get_trace(x)
    p = poutine.trace(poutine.replay(model, trace=q)).get_trace(x)
    p.compute_log_prob()
    kl = kl_divergence(q.nodes["z"]["fn"].base_dist, p.nodes["z"]["fn"].base_dist)
    free = len(x) * kl.mean(0).clamp(min=0.25).sum()
    return free - p.nodes["x"]["log_prob_sum"]


pyro.set_rng_seed(0)
vae = VAE()
svi = SVI(vae.model, vae.guide, Adam({"lr": 5e-3}), free_bits)
for _ in range(20):
    for x in minibatches():
        svi.step(x)
bound = -TraceMeanField_ELBO().loss(vae.model, vae.guide, validation) / len(validation)
print(f"{bound:.2f} nats per image")
