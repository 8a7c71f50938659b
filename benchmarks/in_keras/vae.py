"""The lecture's VAE in Keras 3, on TensorFlow, JAX or PyTorch."""

import keras
from keras import layers, ops


class VAE(keras.Model):
    """784-512-2-512-784, as on the slides."""

    def __init__(self, n_z=2, seed=0):
        super().__init__()
        self.h_q = layers.Dense(512, activation="relu")
        self.mu = layers.Dense(n_z)
        self.logvar = layers.Dense(n_z)  # `log_sigma` on the slide
        self.hidden = layers.Dense(512, activation="relu")
        self.out = layers.Dense(784)  # logits
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, x, eps=None):
        """Return the loss of each image: (N, 784) → (N,), in nats."""
        h = self.h_q(x)
        mu, logvar = self.mu(h), self.logvar(h)
        if eps is None:
            eps = keras.random.normal(ops.shape(mu), seed=self.seeds)
        z = mu + ops.exp(logvar / 2) * eps
        logits = self.out(self.hidden(z))
        reconstruction = ops.sum(ops.softplus(logits) - x * logits, axis=1)
        kl = 0.5 * ops.sum(ops.exp(logvar) + mu**2 - 1 - logvar, axis=1)
        return reconstruction + kl


def train(vae, x, epochs=10):
    """Minibatches of 50 and Adam, as on the slides; returns Keras's history."""
    vae.compile(optimizer="adam", loss=lambda _, loss: ops.mean(loss))
    return vae.fit(x, x[:, 0], batch_size=50, epochs=epochs, verbose=0)
