"""Trains the PowerSoftmax vision transformer for 8x8 digits and exports it.

    python train.py [--out FOLDER] [--threads N]

Two phases, as in Zimerman et al., arXiv 2410.09457:

1. the stable variant: the scores of a row are divided by c = max|x| + delta before the power, which
   changes nothing but the role of epsilon and keeps gradients finite. The range penalty grows from nothing
   and moves the scores to where the plain form needs them;
2. fine-tuning in the plain form x^p / (epsilon + sum x^p), which is the one exported.

A penalty of l_inf type acts on the input of every non-polynomial operator: the spread (largest over
smallest) of the PowerSoftmax denominators and of the LayerNorm variances, and the magnitude of the GELU
inputs. A narrow interval means a low degree and few levels when the operator is replaced by a polynomial.

Everything is seeded and runs in float32 on one thread by default: the same versions on the same machine give
the same files to the byte. Another version of PyTorch or another processor may round differently and give
another, equally good, set of weights.
"""

import argparse
import math
import pathlib

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

SEED = 20410
WIDTH, HEADS, HIDDEN, LAYERS, PATCH, TOKENS, CLASSES = 32, 4, 64, 2, 2, 16, 10
POWER, EPSILON, DELTA = 4, 1e-3, 1e-3
CALIBRATION, TEST = 400, 200

# Where training pushes the ranges; it ends a few percent outside them.
DENOMINATOR = (1.0, 8.0)  # smallest and largest sum x^p
VARIANCE_RATIO = 2.0
GELU_MAGNITUDE = 2.0


class PowerSoftmax(nn.Module):
    """x^p / (epsilon + sum x^p) along the last axis; in the stable variant x is divided by its row's scale."""

    def __init__(self):
        super().__init__()
        self.stable = False

    def forward(self, scores):
        if self.stable:
            scale = scores.detach().abs().amax(-1, keepdim=True) + DELTA
            scores = scores / scale
        power = scores.pow(POWER)
        return power / (power.sum(-1, keepdim=True) + EPSILON)


class Gelu(nn.Module):
    """Exact GELU, by erf."""

    def forward(self, x):
        return F.gelu(x)


class Attention(nn.Module):
    """Multi-head attention: [batch, tokens, width] to the same."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.dense = nn.Linear(WIDTH, WIDTH)
        self.softmax = PowerSoftmax()

    def split(self, x):
        return x.reshape(-1, TOKENS, HEADS, WIDTH // HEADS).transpose(1, 2)

    def forward(self, x):
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        mixed = self.softmax(scores) @ value
        return self.dense(mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH))


class Block(nn.Module):
    """A pre-LN transformer block."""

    def __init__(self):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.post_attention_layernorm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, HIDDEN)
        self.act = Gelu()
        self.fc2 = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.input_layernorm(x))
        return x + self.fc2(self.act(self.fc1(self.post_attention_layernorm(x))))


class DigitsVit(nn.Module):
    """image [batch, 1, 8, 8] in [0, 1] to logits [batch, 10]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.randn(1, TOKENS, WIDTH) * 0.5)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, image):
        x = self.embed(image).reshape(-1, WIDTH, TOKENS).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def set_stable(self, stable):
        for block in self.blocks:
            block.attention.softmax.stable = stable


class Probe:
    """Sees the input of every non-polynomial operator during a forward pass, and turns it into the
    quantity whose range matters: row denominators, variances, GELU arguments."""

    def __init__(self, model):
        self.sites = {}
        for name, module in model.named_modules():
            if isinstance(module, (PowerSoftmax, nn.LayerNorm, Gelu)):
                module.register_forward_pre_hook(self.hook(name))

    def hook(self, name):
        def see(module, inputs):
            (x,) = inputs
            if isinstance(module, PowerSoftmax):
                self.sites[name] = ("denominator", x.pow(POWER).sum(-1) + EPSILON)
            elif isinstance(module, nn.LayerNorm):
                self.sites[name] = ("variance", x.var(-1, unbiased=False) + module.eps)
            else:
                self.sites[name] = ("gelu", x)

        return see

    def ranges(self):
        return {name: (kind, x.min().item(), x.max().item()) for name, (kind, x) in self.sites.items()}

    def penalty(self):
        """The largest excess of each site over its target (the l_inf part), with the mean excess as a
        gradient for the rest."""
        total = 0.0
        low, high = (math.log(d) for d in DENOMINATOR)
        for kind, x in self.sites.values():
            if kind == "gelu":
                excess = F.relu(x.abs() - GELU_MAGNITUDE).flatten()
            else:
                log = x.log().flatten()
                if kind == "denominator":
                    excess = F.relu(low - log) + F.relu(log - high)
                else:
                    excess = F.relu((log - log.mean()).abs() - 0.5 * math.log(VARIANCE_RATIO))
            total = total + excess.max() + 30.0 * excess.mean()
        return total


def shifted(image, generator):
    """Augmentation: each image moves by at most one pixel in each direction, the border is empty;
    contrast changes by up to 10 %."""
    padded = F.pad(image, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(image), 2), generator=generator).tolist()
    moved = torch.stack([p[:, r : r + 8, c : c + 8] for p, (r, c) in zip(padded, moves)])
    stay = torch.rand(len(image), 1, 1, 1, generator=generator) < 0.5
    gain = 0.9 + 0.1 * torch.rand(len(image), 1, 1, 1, generator=generator)
    return torch.where(stay, image, moved) * gain


def data():
    """Images in [0, 1] and labels; train 1397, validation 200, test 200, stratified."""
    digits = load_digits()
    image = (digits.images / 16.0).astype(np.float32)[:, None]
    label = digits.target.astype(np.int64)
    rest, x_test, y_rest, y_test = train_test_split(image, label, test_size=TEST, stratify=label, random_state=SEED)
    x_train, x_valid, y_train, y_valid = train_test_split(
        rest, y_rest, test_size=200, stratify=y_rest, random_state=SEED
    )
    return x_train, y_train, x_valid, y_valid, x_test, y_test


@torch.no_grad()
def accuracy(model, image, label):
    return (model(torch.from_numpy(image)).argmax(1).numpy() == label).mean()


def phase(model, probe, train, valid, generator, *, stable, epochs, rate, weights):
    """One phase of training; `weights` = first and last weight of the range penalty."""
    image, label = (torch.from_numpy(a) for a in train)
    model.set_stable(stable)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    batch = 128
    steps = epochs * (len(image) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(image), generator=generator)
        for first in range(0, len(image) - batch + 1, batch):
            pick = order[first : first + batch]
            logits = model(shifted(image[pick], generator))
            done = step / steps
            weight = weights[0] * (1 - done) + weights[1] * done
            loss = F.cross_entropy(logits, label[pick], label_smoothing=0.05) + weight * probe.penalty()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
        if epoch % 20 == 19 or epoch == epochs - 1:
            print(f"  epoch {epoch + 1:3} loss {loss.item():.3f} validation {accuracy(model, *valid):.3f}", flush=True)


def export(model, path):
    """Writes ONNX by the TorchScript exporter, opset 17, with a dynamic batch axis."""
    model.eval()
    torch.onnx.export(
        model, (torch.zeros(2, 1, 8, 8),), str(path), dynamo=False, opset_version=17,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip


def onnx_logits(path, image):
    """Plaintext logits from onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def report(title, probe):
    print(f"\n{title}\n| site | quantity | min | max | max/min |\n|---|---|---|---|---|")
    for name, (kind, low, high) in probe.ranges().items():
        ratio = "" if kind == "gelu" else f"{high / low:.2f}"
        print(f"| {name} | {kind} | {low:.3f} | {high:.3f} | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)

    x_train, y_train, x_valid, y_valid, x_test, y_test = data()
    model = DigitsVit()
    probe = Probe(model)
    train, valid = (x_train, y_train), (x_valid, y_valid)
    print("phase 1: stable PowerSoftmax")
    phase(model, probe, train, valid, generator, stable=True, epochs=120, rate=3e-3, weights=(0.0, 0.03))
    print("phase 2: plain PowerSoftmax")
    phase(model, probe, train, valid, generator, stable=False, epochs=100, rate=1.5e-3, weights=(0.03, 0.15))

    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "digits-vit.onnx"
    export(model, path)
    calibration = x_train[:CALIBRATION]
    logits = onnx_logits(path, x_test)
    np.savez_compressed(args.out / "digits-vit.calibration.npz", in_image=calibration)
    np.savez_compressed(args.out / "test.npz", in_image=x_test, labels=y_test, logits=logits)

    with torch.no_grad():
        difference = np.abs(model(torch.from_numpy(x_test)).numpy() - logits).max()
        top = np.sort(logits, axis=1)
        print(f"\ntest accuracy (onnxruntime) {(logits.argmax(1) == y_test).mean():.4f}")
        print(f"train {accuracy(model, *train):.4f}  validation {accuracy(model, *valid):.4f}")
        print(f"logits in [{logits.min():.2f}, {logits.max():.2f}], smallest margin {(top[:, -1] - top[:, -2]).min():.3f}")
        print(f"onnxruntime against PyTorch {difference:.1e}")
        for title, images in (("calibration", calibration), ("training", x_train), ("test", x_test)):
            model(torch.from_numpy(images))
            report(f"ranges, {title} set ({len(images)})", probe)


if __name__ == "__main__":
    main()
