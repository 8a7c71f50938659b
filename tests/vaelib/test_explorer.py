from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page
from torch import Tensor, nn

from vaelib.autoencoder import Autoencoder
from vaelib.elbo import evidence_lower_bound
from vaelib.explorer import LatentExplorer
from vaelib.kl import kl_to_standard_normal
from vaelib.networks import GaussianDecoder
from vaelib.plots import PALETTE
from vaelib.vae import VAE

N = 300
CODES = torch.randn(N, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(N) % 10


def vae(
    shape: tuple[int, ...] = (1, 28, 28),
    latent_dim: int = 2,
    hidden: tuple[int, ...] = (512,),
    **kw,
) -> VAE:
    """Untrained, but with pictures from black to white, as training would give."""
    model = VAE(shape, latent_dim, hidden, **kw)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.decoder.body.parameters():
            n_in = parameter.shape[1] if parameter.dim() == 2 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 2 / n_in**0.5)
    return model


def coloured() -> VAE:
    """Another decoder of every kind that there is: layers, activations, likelihood, channels."""
    model = vae((3, 5, 4), hidden=(16, 12), likelihood="gaussian")
    first, _, second, _, third = model.decoder.body
    with torch.no_grad():
        third.weight *= 3
    model.decoder.body = nn.Sequential(first, nn.Tanh(), second, nn.Sigmoid(), nn.ReLU(), third)
    return model


def html(model: VAE, codes: Tensor = CODES, labels: Tensor = LABELS) -> str:
    explorer = LatentExplorer(model, codes, labels)
    assert explorer._repr_html_() == explorer.html
    return explorer.html


class Fragment(HTMLParser):
    """Tags, attributes, and what the scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.cdata_elem:
            self.scripts.append(data)


class TestFragment:
    def test_the_lectures_decoder_is_below_one_megabyte(self):
        codes = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
        assert len(html(vae(), codes, torch.arange(5000) % 10).encode()) < 1_000_000

    def test_asks_for_nothing_from_elsewhere_and_bears_no_id_that_a_second_one_would_repeat(self):
        fragment = Fragment(html(vae(hidden=(8,))))
        assert not {"src", "href", "id", "name"} & set(fragment.attributes)
        assert not {"iframe", "link", "img"} & set(fragment.tags)
        assert not re.search(r"url\(|@import|https?:|fetch\(", html(vae(hidden=(8,))))

    def test_no_character_of_its_data_means_anything_to_html(self):
        # As many weights as there are: every character of the alphabet occurs.
        data, _ = Fragment(html(vae())).scripts
        assert not set("<>&'\\`") & set(data)
        packed = json.loads(data)
        text = packed["views"][0]["layers"][2]["weight"]["text"]
        assert set(text) == set(packed["alphabet"])
        assert len(packed["alphabet"]) ** 7 > packed["levels"] ** 3

    def test_is_the_same_for_the_same_model(self):
        assert html(vae()) == html(vae())

    def test_stays_as_it_was_when_the_model_is_trained_on(self):
        model = vae(hidden=(8,))
        explorer = LatentExplorer(model, CODES, LABELS)
        before = explorer.html
        with torch.no_grad():
            model.decoder.body[0].weight.zero_()
        assert explorer.html == before

    def test_a_thousand_codes_are_drawn_whatever_the_order_of_the_data(self):
        codes = CODES.repeat(10, 1)
        data = json.loads(Fragment(html(vae(hidden=(8,)), codes, LABELS.repeat(10))).scripts[0])
        codes = data["views"][0]["codes"]
        kinds = torch.tensor([kind for kind, *_ in codes]).bincount()
        assert len(codes) == 1000
        assert kinds.min() > 60  # 100 expected, sd 9

    def test_reads_a_model_where_and_as_it_is(self, device):
        model = vae(hidden=(8,))
        expected = html(model)
        moved = model.double().to(device)
        assert html(moved, CODES.double().to(device), LABELS.to(device)) == expected

    def test_one_layer_without_bias_is_a_decoder_too(self):
        model = vae(hidden=(8,))
        model.decoder.body = nn.Linear(2, 784, bias=False)
        packed = json.loads(Fragment(html(model)).scripts[0])
        layer, activation = packed["views"][0]["layers"]
        assert (layer["weight"]["columns"], layer["bias"]["columns"]) == (2, 784)
        assert activation == "sigmoid"

    def test_a_terminal_gets_one_line(self):
        explorer = LatentExplorer(vae(), CODES, LABELS)
        assert repr(explorer).startswith("LatentExplorer(decoder 2-512-784, 300 codes")

    def test_opens_amid_the_codes_of_one_kind(self):
        # Two kinds that overlap, and a third that lies apart.
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn(N, 2, generator=generator) * 0.3
        labels = torch.arange(N) % 3
        codes[labels == 2] += 2.0
        view = json.loads(Fragment(html(vae(hidden=(8,)), codes, labels)).scripts[0])["views"][0]
        start = torch.tensor(view["start"])
        nearest = (codes - start).norm(dim=1).argsort()[:20]
        assert (labels[nearest] == 2).all()

    def test_one_kind_of_code_will_do(self):
        view = json.loads(Fragment(html(vae(hidden=(8,)), CODES[:2], LABELS[:2] * 0)).scripts[0])
        assert len(view["views"][0]["start"]) == 2


class TestRefuses:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (lambda: vae(latent_dim=3, hidden=(8,)), "2 latent dimensions, not 3"),
            (
                lambda: VAE((1, 8, 8), 2, [4], network="convolutional"),
                "fully connected decoder.*ConvTranspose2d|fully connected decoder.*Unflatten",
            ),
            (lambda: vae((784,), hidden=(8,)), "decode images"),
            (lambda: vae((2, 5, 5), hidden=(8,)), "decode images"),
            (lambda: vae(hidden=(600,)), "too large for a page: 1,1"),
            (lambda: nn.Linear(2, 784), "BernoulliDecoder or a GaussianDecoder, not NoneType"),
        ],
    )
    def test_models_that_it_cannot_draw(self, model, message):
        with pytest.raises(ValueError, match=message):
            html(model())

    def test_weights_that_are_not_finite(self):
        model = vae(hidden=(8,))
        with torch.no_grad():
            model.decoder.body[2].weight[3, 4] = torch.nan
        with pytest.raises(ValueError, match="model's weights must be finite"):
            html(model)

    def test_weights_that_rounding_would_change_to_be_seen(self):
        # One hidden unit that never fires has a weight beside which all others vanish.
        model = vae(hidden=(8,))
        with torch.no_grad():
            model.decoder.body[0].weight[0] = 0
            model.decoder.body[0].bias[0] = -1
            model.decoder.body[2].weight[:, 0] = 1e6
        with pytest.raises(ValueError, match=r"off by .*/255"):
            html(model)

    @pytest.mark.parametrize(
        ("codes", "labels", "message"),
        [
            (torch.zeros(5, 3), torch.arange(5), r"codes must be \(N ≥ 1, 2\)"),
            (torch.zeros(0, 2), torch.arange(0), r"codes must be \(N ≥ 1, 2\)"),
            (torch.zeros(5, 2).long(), torch.arange(5), "codes must be floating point"),
            (torch.full((5, 2), torch.inf), torch.arange(5), "codes must be finite"),
            (torch.zeros(5, 2), torch.arange(4), r"labels must be \(5,\) integers"),
            (torch.zeros(5, 2), torch.zeros(5), r"labels must be \(5,\) integers"),
            (torch.zeros(11, 2), torch.arange(11), "at most 10 kinds, not 11"),
        ],
    )
    def test_codes_and_labels_that_do_not_fit(self, codes, labels, message):
        with pytest.raises(ValueError, match=message):
            html(vae(hidden=(8,)), codes, labels)

    @pytest.mark.parametrize(
        ("examples", "message"),
        [
            (torch.zeros(2, 784), "examples must be"),
            (torch.full((2, 1, 28, 28), 0.5), "examples must be of 0 and 1: binarise them"),
            (torch.zeros(2, 1, 28, 28).long(), "examples must be floating point"),
        ],
    )
    def test_examples_that_do_not_fit(self, examples, message):
        with pytest.raises(ValueError, match=message):
            LatentExplorer(vae(hidden=(8,)), CODES, LABELS, examples=examples)

    def test_examples_for_a_model_that_cannot_encode_or_judge_them(self):
        model = vae(hidden=(8,), likelihood="gaussian")
        with pytest.raises(ValueError, match="GaussianEncoder and a BernoulliDecoder"):
            LatentExplorer(model, CODES, LABELS, examples=torch.zeros(1, 1, 28, 28))

    @pytest.mark.parametrize(
        ("autoencoder", "codes", "message"),
        [
            (Autoencoder((1, 28, 28), 3, [4]), CODES, "2 code numbers"),
            (Autoencoder((1, 8, 8), 2, [4]), CODES, r"images \(1, 28, 28\)"),
            (Autoencoder((1, 28, 28), 2, [4]), CODES[:5], "autoencoder's codes must be"),
            (
                Autoencoder((1, 28, 28), 2, network="convolutional"),
                CODES,
                "fully connected decoder",
            ),
            (nn.Linear(2, 784), CODES, "must be a pair, an Autoencoder and its codes"),
        ],
    )
    def test_autoencoders_that_it_cannot_show(self, autoencoder, codes, message):
        with pytest.raises(ValueError, match=message):
            LatentExplorer(vae(hidden=(8,)), CODES, LABELS, autoencoder=(autoencoder, codes))

    def test_an_autoencoder_without_its_codes(self):
        with pytest.raises(ValueError, match=r"must be a pair.*not Autoencoder"):
            LatentExplorer(
                vae(hidden=(8,)), CODES, LABELS, autoencoder=Autoencoder((1, 28, 28), 2, [4])
            )


@pytest.fixture(scope="module")
def models() -> list[VAE]:
    return [vae(), coloured()]


@pytest.fixture(scope="module")
def address(models: list[VAE], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with two explorers, and room to scroll."""
    file: Path = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorers</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        'body[data-jp-theme-light="false"] { --jp-layout-color0: #111;'
        "--jp-content-font-color1: #fff }"
        'html[data-theme="dark"] { --pst-color-background: #121212;'
        "--pst-color-text-base: #ced6dd; background: #121212; color: #ced6dd }</style>"
        f"<main><h1>Explorers</h1>{html(models[0])}{html(models[1])}"
        '<div style="height: 2000px"></div></main>',
        encoding="utf-8",
    )
    return file.as_uri()


def visit(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page; it must neither complain nor ask the network for anything."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert complaints == [address]


EXAMPLES = (torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(5)) < 0.2).float()


@pytest.fixture(scope="module")
def drawn_on() -> VAE:
    """A model that encodes what is drawn: its encoder, too, depends on what it is given."""
    model = vae(hidden=(32,))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.encoder.body.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="module")
def drawing_address(drawn_on: VAE, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    plain = Autoencoder((1, 28, 28), 2, [16])
    fragment = LatentExplorer(
        drawn_on, CODES, LABELS, examples=EXAMPLES, autoencoder=(plain, 5 * CODES)
    ).html
    file: Path = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        'html[data-theme="dark"] { --pst-color-background: #121212;'
        "--pst-color-text-base: #ced6dd; background: #121212; color: #ced6dd }</style>"
        f"<main><h1>Explorer</h1>{fragment}</main>",
        encoding="utf-8",
    )
    return file.as_uri()


@pytest.fixture
def pad(chromium: Browser, drawing_address: str) -> Iterator[Page]:
    yield from visit(chromium.new_context(offline=True, has_touch=True), drawing_address)


def drawn(page: Page) -> Tensor:
    """The drawing, as the page would show it in pixels: (1, 1, 28, 28)."""
    values = page.locator(".le-pad").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    return (torch.tensor(values).view(28, 28, 4)[None, None, ..., 0] > 200).float()


def terms(page: Page) -> dict[str, list[float]]:
    names = ("mu", "sigma", "reconstruction", "kl", "elbo")
    return {
        name: [
            float(n)
            for n in re.findall(
                r"-?\d+\.\d+", page.locator(f".le-{name}").inner_text().replace("−", "-")
            )
        ]
        for name in names
    }


def check_terms(page: Page, model: VAE) -> None:
    """What the page says of the drawing is what vaelib computes."""
    x, said = drawn(page), terms(page)
    data = json.loads(page.locator("script[type='application/json']").text_content())
    with torch.no_grad():
        q = model.encoder(x)
        bound = evidence_lower_bound(model, x, torch.tensor(data["noise"]).unsqueeze(1))
    assert said["mu"] == pytest.approx(q.mean[0].tolist(), abs=0.006)
    assert said["sigma"] == pytest.approx(q.stddev[0].tolist(), abs=0.006)
    assert said["reconstruction"][0] == pytest.approx(bound.reconstruction.item(), abs=0.2)
    assert said["kl"][0] == pytest.approx(kl_to_standard_normal(q.mu, q.logvar).item(), abs=0.06)
    assert said["elbo"][0] == pytest.approx(bound.mean().item(), abs=0.2)


@pytest.mark.browser
class TestDrawing:
    def test_it_begins_with_an_example_and_others_can_be_taken(self, pad, drawn_on):
        choice = pad.locator(".le-example")
        for i in range(len(EXAMPLES)):
            choice.select_option(str(i))
            assert torch.equal(drawn(pad), EXAMPLES[i : i + 1])
            check_terms(pad, drawn_on)
            assert where(pad.locator(".latent-explorer")) == terms(pad)["mu"]

    def test_a_pen_draws_and_the_page_encodes(self, pad, drawn_on):
        pad.locator(".le-clear").click()
        assert drawn(pad).sum() == 0
        check_terms(pad, drawn_on)
        box = pad.locator(".le-pad").bounding_box()
        pad.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
        pad.mouse.down()
        pad.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"], steps=2)
        pad.mouse.up()
        x = drawn(pad)[0, 0]
        rows, columns = x.nonzero(as_tuple=True)
        assert 30 < x.sum() < 60
        assert rows.max() - rows.min() == 2  # a straight line, three pixels thick
        assert columns.max() - columns.min() >= 0.4 * 28
        check_terms(pad, drawn_on)
        assert pad.locator(".le-example").input_value() == "-1"

    def test_the_keyboard_draws_too(self, pad, drawn_on):
        pad.locator(".le-clear").click()
        pad.locator(".le-pad").focus()
        for key in ["ArrowRight"] * 3 + [" "] + ["ArrowUp"] * 6 + [" "] + ["ArrowLeft"] * 4:
            pad.keyboard.press(key)
        pad.locator(".le-clear").focus()
        x = drawn(pad)[0, 0]
        rows, columns = x.nonzero(as_tuple=True)
        assert (rows.min().item(), rows.max().item()) == (7, 15)
        assert (columns.min().item(), columns.max().item()) == (16, 18)
        check_terms(pad, drawn_on)

    def test_the_ellipse_is_two_standard_deviations_wide(self, pad):
        far, said = extent(pad), terms(pad)
        marks = pad.locator(".le-q ellipse").last
        cx, cy, rx, ry = (float(marks.get_attribute(name)) for name in ("cx", "cy", "rx", "ry"))
        assert [(cx / 200 - 1) * far, (1 - cy / 200) * far] == pytest.approx(said["mu"], abs=0.006)
        widths = [rx / 200 * far / 2, ry / 200 * far / 2]
        assert widths == pytest.approx(said["sigma"], abs=0.006)

    def test_samples_are_those_of_the_noise(self, pad):
        said = terms(pad)
        data = json.loads(pad.locator("script[type='application/json']").text_content())
        for eps in data["noise"][:3]:
            pad.locator(".le-sample").click()
            z = [m + s * e for m, s, e in zip(said["mu"], said["sigma"], eps, strict=True)]
            assert where(pad.locator(".latent-explorer")) == pytest.approx(z, abs=0.05)

    def test_manifold_circles_and_the_autoencoder_are_switched_on_and_off(self, pad):
        assert pad.locator(".le-tiles").is_hidden()
        pad.locator(".le-manifold").check()
        assert pad.locator(".le-tiles").is_visible()
        model_tiles = pad.locator(".le-tiles").evaluate("c => c.toDataURL()")
        pad.locator(".le-prior").check()
        radii = pad.locator(".le-circles circle").evaluate_all(
            "c => c.map(e => +e.getAttribute('r'))"
        )
        assert [r / 200 * extent(pad) for r in radii] == pytest.approx([1, 2, 3])
        far = extent(pad)
        pad.locator(".le-autoencoder").check()
        assert extent(pad) > 2 * far
        assert pad.locator(".le-q ellipse").count() == 0  # it has no q
        assert pad.locator(".le-tiles").evaluate("c => c.toDataURL()") != model_tiles
        pad.locator(".le-sample").click()  # from the model's q, so back in its plane
        assert not pad.locator(".le-autoencoder").is_checked()
        assert extent(pad) == far
        pad.locator(".le-manifold").uncheck()
        assert pad.locator(".le-tiles").is_hidden()

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, pad, theme):
        pad.evaluate("theme => document.documentElement.setAttribute('data-theme', theme)", theme)
        pad.locator(".le-prior").check()
        found = Axe().run(pad).response["violations"]
        assert [(item["id"], item["nodes"][0]["html"][:80]) for item in found] == []


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    yield from visit(chromium.new_context(offline=True), address)


@pytest.fixture
def phone(chromium: Browser, address: str) -> Iterator[Page]:
    size = {"width": 360, "height": 740}
    yield from visit(chromium.new_context(offline=True, has_touch=True, viewport=size), address)


def explorer(page: Page, index: int = 0) -> Locator:
    """Scrolled to, so that the mouse reaches it."""
    found = page.locator(".latent-explorer").nth(index)
    found.scroll_into_view_if_needed()
    return found


def where(explorer: Locator) -> list[float]:
    """Z, as it is shown."""
    return numbers(explorer.locator(".le-z").inner_text())


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def place(explorer: Locator, x: float, y: float) -> tuple[float, float]:
    """Pixels on the page, of a place in the plane: from (0, 0), left above, to (1, 1)."""
    box = explorer.locator(".le-plane").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def extent(explorer: Locator) -> float:
    return float(explorer.locator(".le-point").get_attribute("aria-valuemax"))


def picture(explorer: Locator) -> str:
    """What is on the canvas, so that it can be compared."""
    return explorer.locator(".le-decoded").evaluate("canvas => canvas.toDataURL()")


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Of one finger; Playwright itself only taps."""
    devtools = page.context.new_cdp_session(page)
    path = [
        (start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]))
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    for kind, points in [
        ("touchStart", path[:1]),
        *(("touchMove", [point]) for point in path[1:]),
        ("touchEnd", []),
    ]:
        touches = [{"x": x, "y": y} for x, y in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


@pytest.mark.browser
class TestInTheBrowser:
    @pytest.mark.parametrize("index", [0, 1])
    def test_the_picture_equals_pytorchs(self, page, models, index):
        places = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)).tolist()
        drawn = explorer(page, index).evaluate(
            """(explorer, places) => {
              const plane = explorer.querySelector(".le-plane");
              const canvas = explorer.querySelector(".le-decoded");
              const box = plane.getBoundingClientRect();
              return JSON.stringify(places.map(([x, y]) => {
                const clientX = box.left + x * box.width, clientY = box.top + y * box.height;
                plane.dispatchEvent(new MouseEvent("click", { clientX, clientY }));
                const image = canvas.getContext("2d")
                  .getImageData(0, 0, canvas.width, canvas.height);
                return [explorer.querySelector(".le-z").textContent, Array.from(image.data)];
              }));
            }""",
            places,
        )
        z = torch.tensor([numbers(text) for text, _ in json.loads(drawn)])
        *_, height, width = models[index].decoder.shape
        pixels = torch.tensor([values for _, values in json.loads(drawn)]).view(
            -1, height, width, 4
        )
        pixels = pixels.permute(0, 3, 1, 2)
        with torch.no_grad():
            means = models[index].decoder(z).mean.clamp(0, 1).expand_as(pixels[:, :3])
        assert len(z.unique(dim=0)) == 100
        assert means.std(0).mean() > 0.1  # there is something to be wrong about
        assert (pixels[:, :3] - 255 * means).abs().max() <= 1
        assert (pixels[:, 3] == 255).all()

    def test_every_code_is_drawn_at_its_place_as_its_label_and_in_its_colour(self, page):
        marks = explorer(page).locator(".le-codes").first.locator("text")
        drawn = marks.evaluate_all(
            """marks => marks.map(t => [t.textContent, t.getAttribute("fill"),
                 Number(t.getAttribute("x")), Number(t.getAttribute("y"))])"""
        )
        far = extent(explorer(page))
        expected = {
            (str(label), PALETTE[label], round(x, 2), round(y, 2))
            for label, (x, y) in zip(LABELS.tolist(), CODES.tolist(), strict=True)
        }
        got = {
            (label, colour, round((x / 200 - 1) * far, 2), round((1 - (y - 3) / 200) * far, 2))
            for label, colour, x, y in drawn
        }
        assert len(drawn) == N
        assert got == expected

    def test_dragging_moves_the_point_of_this_explorer_alone(self, page):
        shown, other = explorer(page), explorer(page, 1)
        untouched, start = picture(other), where(other)
        page.mouse.move(*place(explorer(page), 0.5, 0.5))
        page.mouse.down()
        page.mouse.move(*place(shown, 0.75, 0.25), steps=3)
        assert where(shown) == pytest.approx([extent(shown) / 2] * 2, abs=0.02)
        page.mouse.move(*place(shown, -0.2, 0.5))  # beyond the border
        assert where(shown)[0] == -extent(shown)
        page.mouse.up()
        page.mouse.move(*place(shown, 0.9, 0.9))  # nothing is held any more
        assert where(shown)[0] == -extent(shown)
        page.keyboard.press("ArrowRight")
        assert where(shown)[0] == pytest.approx(-0.98 * extent(shown), abs=0.011)
        assert where(other) == start
        assert picture(other) == untouched

    def test_arrow_keys_move_the_point_and_neither_the_page_nor_a_notebooks_cells(self, page):
        shown = explorer(page)
        page.evaluate(
            """() => {
              window.heard = [], window.prevented = [];
              const later = (event) => setTimeout(() => prevented.push(event.defaultPrevented));
              document.addEventListener("keydown", later, true);
              document.addEventListener("keydown", (event) => { heard.push(event.key) });
            }"""
        )
        far = extent(shown)
        page.keyboard.press("Tab")
        assert shown.locator(".le-point").evaluate("e => e.matches(':focus-visible')")
        before, start = picture(shown), where(shown)
        for key, moved in {
            "ArrowRight": (0.02, 0),
            "ArrowUp": (0.02, 0.02),
            "Shift+ArrowLeft": (-0.18, 0.02),
            "Shift+ArrowDown": (-0.18, -0.18),
        }.items():
            page.keyboard.press(key)
            z = [s + far * m for s, m in zip(start, moved, strict=True)]
            assert where(shown) == pytest.approx(z, abs=0.021)
        assert picture(shown) != before
        for _ in range(6):
            page.keyboard.press("Shift+ArrowLeft")
        assert where(shown)[0] == -far
        assert set(page.evaluate("heard")) == {"Tab", "Shift"}
        page.wait_for_function("prevented.filter(Boolean).length === 10")  # all arrows

    def test_the_point_says_where_it_is_and_what_is_near(self, page):
        shown = explorer(page)
        code, label = CODES[7], LABELS[7]
        x, y = (1 + code / extent(shown) * torch.tensor([1.0, -1.0])).div(2).tolist()
        page.mouse.click(*place(shown, x, y))
        point = shown.locator(".le-point")
        z1, z2 = where(shown)
        spoken = f"z₁ = {z1:.2f}, z₂ = {z2:.2f}, nearest training code: {label}".replace("-", "−")
        assert point.get_attribute("aria-valuetext") == spoken
        assert float(point.get_attribute("aria-valuenow")) == z1

    def test_a_finger_taps_or_drags_the_point_and_scrolls_beside_it(self, phone):
        shown = explorer(phone)
        phone.touchscreen.tap(*place(shown, 0.25, 0.75))
        assert where(shown) == pytest.approx([-extent(shown) / 2] * 2, abs=0.02)
        scrolled = phone.evaluate("scrollY")
        x, y = place(shown, 0.25, 0.75)
        swipe(phone, (x + 22, y), place(shown, 0.5, 0.5))  # near enough to the point
        assert where(shown) == pytest.approx([0, 0], abs=0.02)
        assert phone.evaluate("scrollY") == scrolled
        swipe(phone, place(shown, 0.75, 0.75), place(shown, 0.75, 0.25))
        phone.wait_for_function(f"scrollY > {scrolled}")
        assert where(shown) == pytest.approx([0, 0], abs=0.02)

    def test_fits_a_phone(self, phone):
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360
        for part in (".le-decoded", ".le-plane"):
            box = explorer(phone).locator(part).bounding_box()
            assert box["width"] >= 120

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, page, theme):
        page.evaluate("theme => document.documentElement.setAttribute('data-theme', theme)", theme)
        found = Axe().run(page).response["violations"]
        assert [(item["id"], item["nodes"][0]["html"][:80]) for item in found] == []

    @pytest.mark.parametrize(
        "dark",
        [
            "document.documentElement.dataset.theme = 'dark'",
            "document.body.dataset.jpThemeLight = false",
        ],
        ids=["book", "JupyterLab"],
    )
    def test_a_dark_page_gets_a_dark_plane_and_light_marks(self, page, dark):
        page.evaluate(dark)
        png = explorer(page).locator(".le-plane").screenshot()
        grey = np.asarray(Image.open(BytesIO(png)).convert("L"))
        assert np.median(grey) < 40
        # Marks are 136 inside; how many pixels their edges take is Chromium's affair.
        assert (grey > 100).mean() > 0.015
        assert ((grey > 60) & (grey <= 100)).mean() < (grey > 100).mean()

    def test_nothing_moves_by_itself(self, page):
        page.mouse.click(*place(explorer(page), 0.2, 0.2))
        assert page.evaluate("document.getAnimations().length") == 0

    def test_says_so_where_no_script_may_run(self, chromium, address):
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(address)
        assert "run the cell" in page.locator(".latent-explorer").first.inner_text()
        context.close()


def test_the_gaussian_of_the_coloured_model_leaves_the_range_of_a_picture(models):
    # Or nothing above would have looked at how means beyond black and white are drawn.
    assert isinstance(models[1].decoder, GaussianDecoder)
    with torch.no_grad():
        means = models[1].decoder(CODES).mean
    assert means.min() < 0
    assert means.max() > 1
