"""The playgrounds: they compute what PyTorch computes, and are played with in every way."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.base import AXE_SCRIPT
from colours import CONTRAST
from playwright.sync_api import Browser, Locator, Page
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from book.playgrounds import NAMES, still
from vaelib import DiagonalGaussian, NonlinearGaussian, pathwise_terms, score_function_terms

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "book/static"
PICTURES = ROOT / "chapters/playgrounds"
PAGE = "\n\n".join(
    f"""```{{playground}} {name}
:predict: "What will $z$ do?"
:alt: "{name}, drawn."

Caption number {number}.
```"""
    for number, name in enumerate(NAMES)
)
TOY = NonlinearGaussian()


def source(text: str) -> dict[str, str]:
    """A tiny book with the pictures."""
    pictures = {f"chapters/playgrounds/{name}.svg": "" for name in NAMES}
    for name in pictures:
        pictures[name] = (ROOT / name).read_text("utf-8")
    return {"index.md": f"# Title\n\n{text}\n", "plain.md": "# Plain\n", **pictures}


def gaussian(mu: float | list[float], sigma: float | list[float]) -> DiagonalGaussian:
    mu, sigma = (torch.tensor(v, dtype=torch.float64).view(-1, 1) for v in (mu, sigma))
    return DiagonalGaussian(mu, 2 * sigma.log())


class TestDirective:
    def test_a_page_has_the_picture_the_question_the_caption_and_what_they_need(self, build):
        built = build(source(PAGE), "book.playgrounds", "book.alt_text")
        page = built.page("index")
        assert built.warnings.count("WARNING") == 1  # `plain` is in no table of contents
        for number, name in enumerate(NAMES):
            figure = re.search(
                rf'<figure[^>]*data-playground="{name}".*?</figure>', page, re.DOTALL
            )
            assert figure
            assert f'<svg role="img" aria-label="{name}, drawn."' in figure[0]
            assert figure[0].count('class="play-question"') == 1
            assert f"Caption number {number}." in figure[0].partition("<figcaption")[2]
            assert f'defer="defer" src="_static/play-{name}.js' in page
        assert page.index("_static/play.js") < page.index("_static/play-bound.js")
        assert "_static/play.css" in page

    def test_only_pages_with_playgrounds_load_scripts_and_only_theirs(self, build):
        built = build(source(PAGE.split("\n\n```")[0]), "book.playgrounds")
        assert f"play-{NAMES[0]}.js" in built.page("index")
        assert all(f"play-{name}.js" not in built.page("index") for name in NAMES[1:])
        assert "_static/play" not in built.page("plain")

    def test_the_question_may_be_left_out_and_the_text_may_not(self, build):
        text = "```{playground} bound\n\nCaption.\n```"
        built = build(source(text), "book.playgrounds", "book.alt_text")
        assert "play-question" not in built.page("index")
        assert "a drawing without alternative text" in built.warnings

    def test_a_text_may_hold_what_means_something_in_html(self, build):
        text = "```{playground} bound\n:alt: \"a < b & 'c'\"\n```"
        assert 'aria-label="a &lt; b &amp; &#x27;c&#x27;"' in build(
            source(text), "book.playgrounds"
        ).page("index")

    def test_no_playground_of_that_name(self, build):
        text = "```{playground} pond\n:alt: A pond.\n```"
        warned = build(source(text), "book.playgrounds").warnings
        assert "there is no playground 'pond', only bound, gradient, kl-directions" in warned


# --- in the browser ---


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with all of them in the theme's colours, and room to scroll."""
    figures = "".join(
        f'<figure class="playground" data-playground="{name}">'
        + still((PICTURES / f"{name}.svg").read_text("utf-8"), f"{name}, drawn")
        + f'<p class="play-question">What will it do?</p><figcaption>{name}</figcaption></figure>'
        for name in NAMES
    )
    scripts = "".join(
        f'<script defer src="{(STATIC / script).as_uri()}"></script>'
        for script in ("play.js", *(f"play-{name}.js" for name in NAMES))
    )
    file: Path = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(
        '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
        '<title>Playgrounds</title><meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{(STATIC / "play.css").as_uri()}">{scripts}<style>'
        "html { color-scheme: light; font-family: sans-serif } figure { margin: 1rem 0 }"
        'html[data-theme="dark"] { color-scheme: dark; --pst-color-background: #121212;'
        "--pst-color-text-base: #ced6dd; --pst-color-primary: #3fb1c5; background: #121212;"
        "color: #ced6dd } main { max-width: 44rem; margin: auto }</style>"
        f'<main><h1>Playgrounds</h1>{figures}<div style="height: 2000px"></div></main>',
        encoding="utf-8",
    )
    return file.as_uri()


def visit(browser: Browser, address: str, **settings: Any) -> Iterator[Page]:
    """The page; it must neither complain nor ask the network for anything."""
    complaints: list[str] = []
    context = browser.new_context(offline=True, **settings)
    page = context.new_page()
    page.on("console", lambda m: m.type in ("error", "warning") and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: r.url.startswith("file:") or complaints.append(r.url))
    page.goto(address)
    yield page
    context.close()
    assert not complaints


STILL = {"reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def functions(chromium: Browser, address: str) -> Iterator[Page]:
    """A page whose functions are called; nobody plays there."""
    yield from visit(chromium, address)


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    yield from visit(chromium, address, viewport={"width": 1000, "height": 800}, **STILL)


@pytest.fixture
def phone(chromium: Browser, address: str) -> Iterator[Page]:
    size = {"width": 360, "height": 740}
    yield from visit(chromium, address, viewport=size, has_touch=True, **STILL)


def call(page: Page, name: str, function: str, *rows: list[float]) -> Tensor:
    """What a function of the page gives for each row: a number, or several in the order named."""
    values = page.evaluate(
        """([name, f, rows]) => rows.map((row) => {
            const value = playgrounds[name][f](...row);
            return typeof value === "object" ? Object.values(value) : value;
        })""",
        [name, function, [list(row) for row in zip(*rows, strict=True)]],
    )
    return torch.tensor(values, dtype=torch.float64)


def uniform(n: int, *ranges: tuple[float, float]) -> list[list[float]]:
    """Inputs, a list for each range."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(len(ranges), n, generator=generator, dtype=torch.float64)
    return [
        (low + (high - low) * row).tolist() for row, (low, high) in zip(draws, ranges, strict=True)
    ]


def integrate(f: Callable[[Tensor], Tensor], low: float = -40, high: float = 40) -> Tensor:
    z = torch.linspace(low, high, 8_001, dtype=torch.float64)
    return torch.trapezoid(f(z), z)


def mixture(d: float) -> MixtureSameFamily:
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)
    means = torch.tensor([-d / 2, d / 2], dtype=torch.float64)
    return MixtureSameFamily(Categorical(weights), Normal(means, torch.full_like(means, 0.6)))


def both_divergences(d: float, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    p, q = mixture(d), Normal(mu, sigma, validate_args=False)
    return (
        integrate(lambda z: q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))),
        integrate(lambda z: p.log_prob(z).exp() * (p.log_prob(z) - q.log_prob(z))),
    )


F = {
    "square": lambda z: (z - 2) ** 2,
    "raised": lambda z: (z - 2) ** 2 + 10,
    "wave": lambda z: torch.sin(4 * z),
}


@pytest.mark.browser
@pytest.mark.slow
class TestNumbers:
    """The functions of the page against vaelib, quadrature and autograd, in float64."""

    def test_the_terms_of_the_bound(self, functions):
        x, mu, sigma = uniform(300, (0, 1.5), (-1.5, 3), (0.05, 1.5))
        got = call(functions, "bound", "terms", x, mu, sigma).T
        at, q = (
            torch.tensor(x, dtype=torch.float64).view(-1, 1),
            gaussian(mu, sigma),
        )
        bound = TOY.exact_elbo(at, q)
        wanted = [
            bound.reconstruction,
            bound.kl.sum(-1),
            TOY.kl_to_posterior(at, q),
            bound.per_example,
            TOY.log_marginal(at),
        ]
        assert (got - torch.stack(wanted)).abs().max() < 1e-10
        assert (got[3] + got[2] - got[4]).abs().max() < 1e-10  # not by construction

    def test_the_posterior(self, functions):
        z, x = uniform(100, (-1.5, 3), (0, 1.5))
        got = call(functions, "bound", "posterior", z, x)
        z, x = (torch.tensor(v, dtype=torch.float64).view(-1, 1) for v in (z, x))
        assert (got - TOY.log_posterior(z, x).exp()).abs().max() < 1e-9
        x = [0.0, 0.5, 1.2]
        got = call(functions, "bound", "moments", x)
        q = TOY.encoder(torch.tensor(x, dtype=torch.float64).view(-1, 1))
        assert (got - torch.cat([q.mean, q.stddev], dim=1)).abs().max() < 1e-9

    def test_the_climb_ends_at_a_maximum_and_does_not_leap(self, functions):
        x, mu, sigma = uniform(40, (0, 1.5), (-1.4, 2.9), (0.06, 1.4))
        top = call(functions, "bound", "best", x, mu, sigma)
        parameters = torch.stack([top[:, :1], 2 * top[:, 1:].log()]).requires_grad_()
        at = torch.tensor(x, dtype=torch.float64).view(-1, 1)
        bound = TOY.exact_elbo(at, DiagonalGaussian(parameters[0], parameters[1])).per_example
        (slope,) = torch.autograd.grad(bound.sum(), parameters)
        assert slope.abs().max() < 1e-3
        start = TOY.exact_elbo(at, gaussian(mu, sigma)).per_example
        assert (bound > start - 1e-9).all()
        left, right = call(functions, "bound", "best", [0.5] * 2, [0.1, 1.6], [0.1, 0.1])
        assert left.tolist() == pytest.approx([0.1594, 0.0832], abs=2e-4)
        best = TOY.best_diagonal(torch.tensor([[0.5]], dtype=torch.float64))
        assert right.tolist() == pytest.approx([best.mean.item(), best.stddev.item()], abs=1e-5)

    def test_both_divergences(self, functions):
        d, mu, sigma = uniform(100, (0, 6), (-5, 5), (0.2, 4))
        got = call(functions, "kl-directions", "divergences", d, mu, sigma)
        wanted = [
            torch.stack(both_divergences(a, *torch.tensor([b, c], dtype=torch.float64)))
            for a, b, c in zip(d, mu, sigma, strict=True)
        ]
        assert ((got - torch.stack(wanted)).abs() / (1 + got)).max() < 1e-10
        z, d = uniform(50, (-5, 5), (0, 6))
        got = call(functions, "kl-directions", "target", z, d)
        wanted = [
            mixture(b).log_prob(torch.tensor(a, dtype=torch.float64)).exp()
            for a, b in zip(z, d, strict=True)
        ]
        assert (got - torch.stack(wanted)).abs().max() < 1e-12

    @pytest.mark.parametrize("d", [0.0, 1.5, 2.5, 3.0, 4.0, 6.0])
    def test_both_minima(self, functions, d):
        for k, which in enumerate(("seeker", "moments")):
            (least,) = call(functions, "kl-directions", which, [d])
            mu, log_sigma = least[0], least[1].log()
            parameters = torch.stack([mu, log_sigma]).requires_grad_()
            kl = both_divergences(d, parameters[0], parameters[1].exp())[k]
            (slope,) = torch.autograd.grad(kl, parameters)
            assert slope.abs().max() < 1e-5
            for at in torch.cartesian_prod(torch.linspace(-4, 4, 9), torch.linspace(-1, 1.2, 5)):
                assert both_divergences(d, at[0].double(), at[1].double().exp())[k] > kl - 1e-9

    @pytest.mark.parametrize("name", F)
    def test_both_estimators(self, functions, name):
        f = F[name]
        eps = torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for mu, sigma in zip(*uniform(10, (-2, 4), (0.1, 1.5)), strict=True):
            at = torch.tensor([mu, sigma], dtype=torch.float64)
            got = functions.evaluate(
                "(input) => playgrounds.gradient.estimates(...input)",
                [name, mu, sigma, eps.tolist()],
            )
            for key, terms in (("pathwise", pathwise_terms), ("score", score_function_terms)):
                wanted = terms(f, *at, eps)[:, 0].view(-1, 10).mean(1)
                assert (torch.tensor(got[key], dtype=torch.float64) - wanted).abs().max() < 1e-10

    @pytest.mark.parametrize("name", F)
    def test_their_exact_mean_and_deviations(self, functions, name):
        f = F[name]
        mu, sigma = uniform(40, (-2, 4), (0.1, 1.5))
        exact = call(functions, "gradient", "exact", [name] * 40, mu, sigma)
        got = call(functions, "gradient", "deviations", [name] * 40, mu, sigma)
        t = torch.linspace(-9, 9, 3601, dtype=torch.float64)
        mass = Normal(0.0, 1.0).log_prob(t).exp() * 0.005
        for k, at in enumerate(zip(mu, sigma, strict=True)):
            m, s = torch.tensor(at, dtype=torch.float64).requires_grad_()
            (mean,) = torch.autograd.grad((mass * f(m + s * t)).sum(), m)
            assert abs(mean - exact[k]) < 1e-9
            for j, terms in enumerate((pathwise_terms, score_function_terms)):
                each = terms(f, m.detach(), s.detach(), t)[:, 0]
                assert abs((mass * each).sum() - mean) < 1e-9
                assert abs((mass * (each - mean) ** 2).sum().sqrt() - got[k, j]) < 1e-8

    def test_the_noise_is_normal_and_seeded(self, functions):
        draw = "([seed, n]) => [...playgrounds.gradient.noise(seed, n)]"
        n = 20_000
        noise = torch.tensor(functions.evaluate(draw, [1, n]), dtype=torch.float64)
        for power, moment in enumerate((0, 1, 0, 3, 0, 15), start=1):
            spread = math.sqrt(math.prod(range(1, 2 * power, 2)) / n)
            assert abs((noise**power).mean() - moment) < 5 * spread
        assert abs((noise[1:] * noise[:-1]).mean()) < 5 / math.sqrt(n)
        assert functions.evaluate(draw, [1, 9]) == noise[:9].tolist()
        assert functions.evaluate(draw, [2, 9]) != noise[:9].tolist()

    @pytest.mark.parametrize("name", NAMES)
    def test_the_still_picture_is_the_scripts_own(self, functions, name, tmp_path):
        drawn = functions.evaluate("name => playgrounds[name].still()", name) + "\n"
        kept = PICTURES / f"{name}.svg"
        (tmp_path / kept.name).write_text(drawn, "utf-8")
        assert kept.read_text("utf-8") == drawn, f"copy {tmp_path / kept.name} to {kept}"


def playground(page: Page, name: str, answer: int | None = None) -> Locator:
    """Scrolled to, its question answered, or skipped by −1."""
    figure = page.locator(f'[data-playground="{name}"]')
    figure.scroll_into_view_if_needed()
    if answer is not None:
        figure.locator(".play-ask button").nth(answer).click()
    figure.locator(".play-stage").evaluate("e => e.scrollIntoView({block: 'center'})")
    return figure


def number(text: str) -> float:
    (value,) = re.findall(r"[-−]?[\d,]*\.\d+", text)
    return float(value.replace("−", "-").replace(",", ""))


def at(figure: Locator) -> tuple[float, float]:
    """μ and σ, as they are computed with."""
    values = figure.locator(".play-handle").evaluate_all("all => all.map(e => e.ariaValueNow)")
    mu, sigma = map(float, values)
    return mu, sigma


def truth(figure: Locator) -> dict[str, float]:
    """What should be shown: name → number, by PyTorch."""
    mu, sigma = at(figure)
    match figure.get_attribute("data-playground"):
        case "bound":
            x = torch.tensor([[float(figure.locator("input").input_value())]], dtype=torch.float64)
            q = gaussian(mu, sigma)
            bound = TOY.exact_elbo(x, q)
            return {
                "reconstruction": bound.reconstruction.item(),
                "kl": bound.kl.sum().item(),
                "elbo": bound.per_example.item(),
                "gap": TOY.kl_to_posterior(x, q).item(),
                "marginal": TOY.log_marginal(x).item(),
            }
        case "kl-directions":
            d = float(figure.locator("input").input_value())
            qp, pq = both_divergences(d, *torch.tensor([mu, sigma], dtype=torch.float64))
            return {"qp": qp.item(), "pq": pq.item()}
        case _:
            name = figure.locator("input:checked").input_value()
            f = F[name]
            t = torch.linspace(-9, 9, 3601, dtype=torch.float64)
            mass = Normal(0.0, 1.0).log_prob(t).exp() * 0.005
            m, s = torch.tensor([mu, sigma], dtype=torch.float64).requires_grad_()
            (mean,) = torch.autograd.grad((mass * f(m + s * t)).sum(), m)
            eps = figure.page.evaluate("[...playgrounds.gradient.noise(1, 10000)]")
            eps = torch.tensor(eps, dtype=torch.float64)
            terms = [
                g(f, m.detach(), s.detach(), eps)[:, 0]
                for g in (pathwise_terms, score_function_terms)
            ]
            pathwise, score = (each.view(-1, 10).mean(1).std().item() for each in terms)
            return {"exact": mean.item(), "pathwise": pathwise, "score": score}


def check(figure: Locator) -> None:
    """The numbers that are shown are those that PyTorch computes, and so is what is spoken."""
    mu, sigma = at(figure)
    wanted = truth(figure)
    for name, value in wanted.items():
        shown = figure.locator(f".play-stage .v-{name}").text_content()
        assert shown
        assert number(shown) == pytest.approx(value, abs=0.00501)
    spoken = figure.locator(".play-handle").evaluate_all("all => all.map(e => e.ariaValueText)")
    assert number(spoken[0].partition(";")[0]) == pytest.approx(mu, abs=0.00501)
    assert number(spoken[1].partition(";")[0]) == pytest.approx(sigma, abs=0.00501)
    values = re.findall(r"[-−]?\d+\.\d+", spoken[0].partition(";")[2])
    assert len(values) == (2 if "qp" in wanted else 3)
    for value in values:
        assert min(abs(number(value) - other) for other in wanted.values()) < 0.00501


def centre(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], dx: float, dy: float = 0) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + dx, start[1] + dy, steps=4)
    page.mouse.up()


def swipe(page: Page, start: tuple[float, float], dx: float, dy: float = 0) -> None:
    """Of one finger; Playwright itself only taps."""
    devtools = page.context.new_cdp_session(page)
    for kind, share in (("Start", 0), ("Move", 0.3), ("Move", 0.6), ("Move", 1), ("End", None)):
        place = {"x": start[0] + (share or 0) * dx, "y": start[1] + (share or 0) * dy}
        points = [] if share is None else [place]
        devtools.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})


def scale(figure: Locator) -> float:
    """Pixels per unit of μ, from two places of its handle."""
    handle = figure.locator(".play-handle").first
    handle.press("End")
    (high, _), right = centre(handle), at(figure)[0]
    handle.press("Home")
    (low, _), left = centre(handle), at(figure)[0]
    return (high - low) / (right - left)


RANGES = {
    "bound": ((-1.5, 3), (0.05, 1.5)),
    "gradient": ((-2, 4), (0.1, 1.5)),
    "kl-directions": ((-5, 5), (0.2, 4)),
}


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
class TestPlay:
    def test_nothing_is_given_away_before_the_answer(self, page, name):
        figure = playground(page, name)
        assert figure.locator(".play-question").is_visible()
        for part in (".play-handle", ".play-controls", ".play-note"):
            assert not figure.locator(part).first.is_visible()
        hidden = {"bound": "gap", "gradient": "score", "kl-directions": "qp"}[name]
        assert "?" in figure.locator(f".play-stage .v-{hidden}").text_content()
        drag(page, centre(figure.locator(".play-stage")), 50)
        assert figure.locator(".play-question").is_visible()

    @pytest.mark.parametrize("answer", [0, 1, 2, -1])
    def test_an_answer_is_compared_and_makes_it_playable(self, page, name, answer):
        figure = playground(page, name, answer)
        verdict = figure.locator(".play-verdict")
        assert verdict.evaluate("e => e === document.activeElement")
        assert figure.locator(".play-ask").count() == 0
        assert figure.locator(".play-handle").first.is_visible()
        check(figure)
        said = verdict.inner_text()
        first = said.split(".")[0].split(",")[0]
        right = {"bound": 2, "gradient": 1, "kl-directions": 0}[name]
        assert (first == "Yes") == (answer == right)
        if answer >= 0:
            # What the answer leads to is among the numbers of the verdict.
            key = {"bound": "gap", "gradient": "pathwise", "kl-directions": "qp"}[name]
            assert f"{truth(figure)[key]:.2f}" in said
        page.keyboard.press("Tab")
        assert figure.locator(".play-handle").first.evaluate("e => e.matches(':focus-visible')")

    def test_by_mouse(self, page, name):
        figure = playground(page, name, -1)
        (mu, sigma), unit = at(figure), scale(figure)
        figure.get_by_role("button", name="Start again").click()
        assert at(figure) == (mu, sigma)
        first, second = figure.locator(".play-handle").all()
        drag(page, centre(first), 40, 60)
        assert at(figure) == (pytest.approx(mu + 40 / unit, abs=0.011), sigma)
        check(figure)
        mu = at(figure)[0]
        drag(page, centre(second), -25, -20)
        assert at(figure) == (mu, pytest.approx(sigma - 25 / unit, abs=0.011))
        check(figure)
        sigma = at(figure)[1]
        x, y = centre(first)
        drag(page, (x - 20, y - 30), -30)  # q as a whole
        assert at(figure) == (pytest.approx(mu - 30 / unit, abs=0.011), sigma)
        drag(page, centre(first), -2000)
        drag(page, centre(second), -2000)
        assert at(figure) == (RANGES[name][0][0], RANGES[name][1][0])
        check(figure)
        page.mouse.move(500, 400)  # nothing is held any more
        assert at(figure) == (RANGES[name][0][0], RANGES[name][1][0])
        drag(page, centre(second), 2000)
        assert at(figure)[1] == RANGES[name][1][1]
        check(figure)

    def test_by_keyboard_and_without_scrolling(self, page, name):
        figure = playground(page, name, -1)
        scrolled = page.evaluate("scrollY")
        for k, (low, high) in enumerate(RANGES[name]):
            page.keyboard.press("Tab")
            value = at(figure)[k]
            for key, step in {
                "ArrowRight": 0.02,
                "ArrowUp": 0.02,
                "ArrowDown": -0.02,
                "Shift+ArrowLeft": -0.2,
                "PageUp": 0.2,
            }.items():
                page.keyboard.press(key)
                value += step
                assert at(figure)[k] == pytest.approx(value, abs=1e-6)
            check(figure)
            page.keyboard.press("Home")
            assert at(figure)[k] == low
            page.keyboard.press("ArrowLeft")
            assert at(figure)[k] == low
            page.keyboard.press("End")
            assert at(figure)[k] == high
            page.keyboard.press("Shift+ArrowLeft")
            check(figure)
        assert page.evaluate("scrollY") == scrolled

    def test_by_finger(self, phone, name):
        figure = playground(phone, name)
        answer = figure.locator(".play-ask button").first
        answer.scroll_into_view_if_needed()
        answer.tap()
        playground(phone, name)
        unit = scale(figure)
        figure.get_by_role("button", name="Start again").tap()
        playground(phone, name)
        mu, sigma = at(figure)
        first, second = figure.locator(".play-handle").all()
        scrolled = phone.evaluate("scrollY")
        x, y = centre(first)
        swipe(phone, (x, y + 14), 25, 30)  # near enough to the handle
        assert at(figure) == (pytest.approx(mu + 25 / unit, abs=0.011), sigma)
        swipe(phone, centre(second), 15, 30)
        assert at(figure)[1] == pytest.approx(sigma + 15 / unit, abs=0.011)
        assert phone.evaluate("scrollY") == scrolled
        check(figure)
        mu = at(figure)[0]
        x, y = centre(figure.locator(".play-stage > svg"))
        swipe(phone, (x, y), 0, -200)  # beside the handles the page scrolls
        phone.wait_for_function(f"scrollY > {scrolled}")
        assert at(figure)[0] == mu

    @pytest.mark.parametrize("width", [360, 700, 768])
    def test_fits_and_no_text_lies_on_another(self, page, name, width):
        page.set_viewport_size({"width": width, "height": 900})
        figure = playground(page, name)

        def look() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            boxes = figure.locator(".play-stage text").evaluate_all(
                "all => all.map(e => ({is: e.textContent, ...e.getBoundingClientRect().toJSON()}))"
            )
            for k, a in enumerate(boxes):
                assert a["left"] >= 0, a
                assert a["right"] <= width, a
                for b in boxes[:k]:
                    across = min(a["right"], b["right"]) - max(a["left"], b["left"])
                    down = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
                    assert across <= 1 or down <= 4, (a, b)

        look()
        figure.locator(".play-ask button").first.click()
        look()
        for button in figure.locator(".play-controls button").all()[:-1]:
            button.click()
        look()
        mean, deviation = figure.locator(".play-handle").all()
        for keys in itertools.product(("Home", "End"), repeat=2):
            mean.press(keys[0])
            deviation.press(keys[1])
            look()
        for control in figure.locator(
            "button:visible, input[type=range], .play-options label"
        ).all():
            box = control.bounding_box()
            assert box
            assert box["height"] >= 40

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing(self, page, name, theme):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.evaluate(AXE_SCRIPT)
        for answered in (False, True):
            if answered:
                playground(page, name, 0)
            found = page.evaluate(
                """name => axe.run(document.querySelector(`[data-playground=${name}]`), {
                    preload: false,
                })""",
                name,
            )["violations"]
            assert [(item["id"], item["nodes"][0]["html"][:90]) for item in found] == []

    def test_lines_stand_out_in_the_light_and_in_the_dark(self, page, name):
        playground(page, name, -1)
        lowest = """([name, theme]) => {
            CONTRAST
            document.documentElement.dataset.theme = theme;
            const live = document.querySelector(`[data-playground=${name}] .play-live`);
            const paper = getComputedStyle(live).backgroundColor;
            const drawn = live.querySelectorAll(
                "svg :is(path, circle, rect, text):not(.grid, .beyond)");
            return Math.min(...[...drawn].map((e) => {
                const { stroke, fill } = getComputedStyle(e);
                const kind = e.getAttribute("class") || "";
                const filled = e.tagName === "text" || /solid|pathwise|score/.test(kind);
                if (/area/.test(kind)) return 21; // its outline counts
                return contrast(filled ? fill : stroke, paper);
            }));
        }""".replace("CONTRAST", CONTRAST)
        for theme in ("light", "dark"):
            assert page.evaluate(lowest, [name, theme]) >= 3

    def test_paper_gets_the_still_picture(self, page, name):
        figure = playground(page, name, 0)
        page.emulate_media(media="print")
        assert figure.locator(".play-still > svg").is_visible()
        assert figure.locator("figcaption").is_visible()
        assert not figure.locator(".play-live").is_visible()

    def test_without_scripts_there_is_the_still_picture(self, chromium, address, name):
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(address)
        figure = page.locator(f'[data-playground="{name}"]')
        assert figure.locator(".play-still > svg").is_visible()
        assert figure.locator("figcaption").is_visible()
        assert not figure.locator(".play-question").is_visible()
        context.close()

    def test_nothing_moves_by_itself(self, page, name):
        figure = playground(page, name, 0)
        for button in figure.locator(".play-controls button").all():
            button.click()
        assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.browser
@pytest.mark.slow
class TestEach:
    def test_log_p_of_x_stays_until_x_moves(self, page):
        figure = playground(page, "bound", -1)
        marginal = figure.locator(".play-stage .v-marginal")
        before = marginal.text_content()
        drag(page, centre(figure.locator(".play-handle").first), -90)
        assert marginal.text_content() == before
        slider = figure.locator("input[type=range]")
        slider.focus()
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        assert slider.input_value() == "0.8"
        assert marginal.text_content() != before
        check(figure)
        assert slider.get_attribute("aria-valuetext").startswith("0.80; ELBO")
        drag(page, centre(slider), -2000)
        assert slider.input_value() == "0"
        check(figure)

    def test_the_best_q_is_that_of_the_peak_where_q_is(self, page):
        figure = playground(page, "bound", -1)
        figure.get_by_role("button", name="Find the best q").click()
        best = TOY.best_diagonal(torch.tensor([[0.5]], dtype=torch.float64))
        assert at(figure) == pytest.approx((best.mean.item(), best.stddev.item()), abs=0.00051)
        note = figure.locator(".play-note")
        assert "No Gaussian has a higher ELBO. The gap is 0.62 nats" in note.inner_text()
        check(figure)
        figure.locator(".play-handle").first.press("Home")
        for _ in range(8):
            page.keyboard.press("Shift+ArrowRight")
        figure.get_by_role("button", name="Find the best q").click()
        assert at(figure)[0] == pytest.approx(0.159, abs=0.001)
        assert (
            "The gap is 0.81 nats, yet near another peak there is a q with 0.62"
            in note.inner_text()
        )
        figure.locator(".play-handle").first.press("ArrowRight")
        assert "Drag" in note.inner_text()  # what was said no longer holds

    @pytest.mark.parametrize("name", ["bound", "kl-directions"])
    def test_on_the_way_there_is_something_to_see_and_a_hand_may_stop_it(
        self, chromium, address, name
    ):
        for page in visit(chromium, address, viewport={"width": 1000, "height": 800}):
            figure = playground(page, name, -1)
            button = figure.locator(".play-controls button").first
            before = at(figure)
            button.click()
            page.wait_for_function("document.querySelector('.play-note').ariaLive === 'off' || 1")
            figure.locator(".play-note[aria-live=polite]").wait_for()
            end = at(figure)
            assert end != before
            check(figure)
            figure.get_by_role("button", name="Start again").click()
            assert at(figure) == before
            button.click()
            figure.locator(".play-handle").nth(1).press("Home")
            stopped = at(figure)
            page.wait_for_timeout(300)
            assert at(figure) == stopped
            assert stopped[1] == RANGES[name][1][0]

    def test_both_minima_are_marked_and_disagree(self, page):
        figure = playground(page, "kl-directions", -1)
        assert figure.locator(".ghost").count() == 0
        buttons = figure.locator(".play-controls button").all()
        buttons[0].click()
        assert at(figure) == pytest.approx((-2, 0.6), abs=0.01)
        assert figure.locator(".play-stage .v-qp").text_content() == "0.51 nats"
        assert (
            "keeps to the taller peak. There KL(p ‖ q) is 8.09"
            in figure.locator(".play-note").inner_text()
        )
        buttons[1].click()
        p = mixture(4.0)
        assert at(figure) == pytest.approx((p.mean.item(), p.stddev.item()), abs=0.00051)
        check(figure)
        assert figure.locator("path.ghost").count() == 4  # two curves, and their names
        slider = figure.locator("input[type=range]")
        slider.focus()
        page.keyboard.press("Home")
        assert slider.input_value() == "0"
        for button in buttons[:2]:  # one peak: both agree
            button.click()
            assert at(figure) == pytest.approx((0, 0.6), abs=0.001)
            assert [
                figure.locator(f".play-stage .v-{way}").text_content() for way in ("qp", "pq")
            ] == ["0.00 nats"] * 2

    def test_both_divergences_are_drawn_over_mu(self, page):
        figure = playground(page, "kl-directions", -1)
        x, y = centre(figure.locator(".play-stage circle").first)
        mu = at(figure)[0]
        drag(page, (x, y - 30), 30)  # there, too, q is dragged
        assert at(figure)[0] > mu
        moved, _ = centre(figure.locator(".play-stage circle").first)
        assert moved == pytest.approx(x + 30, abs=1)

    def test_another_function_and_other_noise(self, page):
        figure = playground(page, "gradient", -1)
        note = figure.locator(".play-note")
        assert "the score function needs about" in note.inner_text()
        shown = figure.locator(".play-stage .v-score")
        before = shown.text_content()
        figure.get_by_role("button", name="Draw new noise").click()
        assert shown.text_content() != before
        figure.get_by_role("button", name="Start again").click()
        assert shown.text_content() == before
        figure.locator("input").first.focus()
        page.keyboard.press("ArrowRight")
        check(figure)
        assert number(shown.text_content()) > 2 * number(before)
        figure.get_by_label("sin 4z").check()
        check(figure)
        assert "the pathwise gradient needs about" in note.inner_text()

    def test_the_draws_move_with_q_and_the_noise_stays(self, page):
        figure = playground(page, "gradient", -1)
        draws = figure.locator(".play-stage circle:not([r='3.5'][cy='28'])")
        place = "all => all.map(e => Number(e.getAttribute('cx')))"
        before = torch.tensor(draws.evaluate_all(place))
        unit = scale(figure)
        figure.get_by_role("button", name="Start again").click()
        figure.locator(".play-handle").first.press("PageUp")
        moved = torch.tensor(draws.evaluate_all(place))
        assert len(moved) == 10
        assert (moved - before).sub(0.2 * unit).abs().max() < 0.3
        figure.locator(".play-handle").nth(1).press("Shift+ArrowLeft")
        eps = torch.tensor(page.evaluate("[...playgrounds.gradient.noise(1, 10)]"))
        wider = torch.tensor(draws.evaluate_all(place))
        assert (wider - moved + 0.2 * unit * eps).abs().max() < 0.3


@pytest.mark.browser
@pytest.mark.slow
def test_a_built_page_plays(chromium: Browser, build: Callable[..., Any]) -> None:
    built = build(source(PAGE), "book.playgrounds", html_static_path=[str(STATIC)])
    for page in visit(chromium, (built.html / "index.html").as_uri()):
        assert page.locator(".playground.is-live").count() == len(NAMES)
        for name in NAMES:
            check(playground(page, name, 0))


def test_they_are_small() -> None:
    files = [STATIC / "play.js", STATIC / "play.css", *STATIC.glob("play-*.js")]
    assert len(files) == 2 + len(NAMES)
    ours = sum(file.stat().st_size for file in files)
    assert ours < 45_000
    explorer = [ROOT / f"vaelib/explorer.{kind}" for kind in ("html", "css", "js")]
    assert ours + sum(file.stat().st_size for file in explorer) < 80_000
