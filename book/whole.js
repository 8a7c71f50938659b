// Makes one document of the book's pages (see whole.py), and reads from it what its files need.
const whole = {};
{
    const INTERACTIVE = "This figure is interactive in the pages of the book.";
    const DROPPED = ".headerlink, .toctree-wrapper, .pause, .formats, .play-live, .play-question, " +
        ".sd-summary-icon, .sd-summary-state-marker, button, script, style, noscript, template";

    const make = (tag, className, ...content) => {
        const element = document.createElement(tag);
        if (className) element.className = className;
        element.append(...content);
        return element;
    };

    // --- a page's article, as it can stand on paper ---

    const unfold = (article) => {
        for (const fold of article.querySelectorAll("details")) {
            const summary = fold.querySelector(":scope > summary");
            const isCode = summary?.querySelector(".collapsed"); // myst-nb's, "Show the code"
            const open = make("div", isCode ? "" : "fold");
            if (summary && !isCode) open.append(make("p", "fold-title", summary.textContent.trim()));
            summary?.remove();
            open.append(...fold.childNodes);
            if (fold.id) open.id = fold.id;
            fold.replaceWith(open);
        }
    };

    const still = (article, stills) => {
        article.querySelectorAll("figure:has(canvas)").forEach((figure, k) => {
            const image = make("img");
            Object.assign(image, stills[k]);
            figure.replaceWith(make("figure", "still", image, make("figcaption", "", INTERACTIVE)));
        });
        for (const figure of article.querySelectorAll("figure[data-playground]"))
            (figure.querySelector("figcaption") ?? figure).append(make("p", "interactive", INTERACTIVE));
    };

    // What must not be torn apart, in words that CSS can use.
    const join = (article) => {
        for (const heading of article.querySelectorAll("span[id]:empty + :is(h1, h2, h3, h4)")) {
            while (heading.previousElementSibling?.matches("span[id]:empty"))
                heading.prepend(heading.previousElementSibling);
        }
        for (const code of article.querySelectorAll("pre"))
            if (code.textContent.trimEnd().split("\n").length <= 24) code.classList.add("short");
        for (const paragraph of article.querySelectorAll("p"))
            if (/:\s*$/.test(paragraph.textContent)) paragraph.classList.add("leads");
        for (const table of article.querySelectorAll("table"))
            if (table.rows.length <= 15) table.classList.add("short");
        for (const fact of article.querySelectorAll(".overview p > strong:not(:first-child)"))
            if (!fact.previousElementSibling?.matches("br")) fact.before(make("br")); // one a line
        for (const cell of article.querySelectorAll("th > p:only-child, td > p:only-child"))
            cell.replaceWith(...cell.childNodes);
    };

    const address = (article, {key, url}, keys) => {
        for (const element of article.querySelectorAll("*")) {
            for (const {name, value} of [...element.attributes]) {
                if (name === "id") element.id = `${key}--${value}`;
                else if (/^aria-(labelledby|describedby|controls)$|^for$/.test(name))
                    element.setAttribute(name, value.replace(/\S+/g, `${key}--$&`));
                else if (value.includes("url(#"))
                    element.setAttribute(name, value.replaceAll("url(#", `url(#${key}--`));
                else if (name === "href" && value.startsWith("#") && element.tagName !== "A")
                    element.setAttribute(name, `#${key}--${value.slice(1)}`); // inside a drawing
            }
            if (element.tagName === "IMG") {
                element.src = new URL(element.getAttribute("src"), url);
                element.removeAttribute("loading");
            }
        }
        for (const link of article.querySelectorAll("a[href]")) {
            const target = new URL(link.getAttribute("href"), url);
            const page = keys.get(target.href.replace(/[?#].*/, ""));
            const id = decodeURIComponent(target.hash.slice(1));
            if (page) link.setAttribute("href", id ? `#${page}--${id}` : `#${page}`);
            else if (target.protocol === "file:") link.replaceWith(...link.childNodes);
        }
    };

    // --- the whole ---

    const titlePage = ({title, author, year}) => {
        const page = make("section", "title-page");
        page.id = "title-page";
        page.innerHTML = `<svg viewBox="0 0 420 120" aria-hidden="true">
            <g fill="none" stroke-width="2">
            <g stroke="#1f1f1f"><rect x="1" y="20" width="80" height="80"/><rect x="339" y="20" width="80" height="80"/></g>
            <path stroke="#0072b2" fill="#e3f1fa" d="M110 20 180 45V75L110 100Z"/>
            <path stroke="#d55e00" fill="#fdeee2" d="M310 20 240 45V75L310 100Z"/>
            <circle stroke="#009e73" fill="#e2f5ee" cx="210" cy="60" r="18"/>
            <path stroke="#5f5f5f" d="M81 60h29M180 60h12M228 60h12M310 60h29"/></g>
            <g font-family="Book, serif" font-size="24" font-style="italic" text-anchor="middle" fill="#1f1f1f">
            <text x="41" y="67">x</text><text x="210" y="67">z</text><text x="379" y="67">x</text>
            <text x="143" y="67" fill="#00609a">q</text><text x="277" y="67" fill="#a84600">p</text></g></svg>`;
        page.prepend(make("p", "title", title));
        page.append(make("p", "author", author), make("p", "year", year));
        return page;
    };

    const heading = (section) => section.querySelector("h1, h2");

    // Copies of the headings, without what must be in a document only once.
    const label = (source) => {
        const copy = source.cloneNode(true);
        copy.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
        copy.querySelectorAll("a").forEach((link) => link.replaceWith(...link.childNodes));
        return [...copy.childNodes];
    };

    const sections = () => [...document.querySelectorAll("section.page")].flatMap((page) => [
        {id: page.id, level: 1, part: page.dataset.part, heading: heading(page)},
        ...[...page.querySelectorAll("section")]
            .filter((section) => section.id && section.querySelector(":scope > h2"))
            .map((section) => ({id: section.id, level: 2, part: "", heading: heading(section)})),
    ]);

    const contentsPage = () => {
        const nav = make("nav", "contents", make("h1", "", "Contents"));
        nav.id = "contents";
        for (const {id, level, part, heading} of sections()) {
            if (part) nav.append(make("p", "part", part));
            const link = make("a", "", make("span", "entry", ...label(heading)), make("span", "dots"));
            link.href = `#${id}`;
            const folio = make("span", "folio", "000");
            folio.dataset.of = id;
            link.append(folio);
            nav.append(make("p", `level-${level}`, link));
        }
        return nav;
    };

    // Each chapter has pages of its own kind, which bear its title.
    const runningTitles = () => {
        const book = JSON.stringify(document.title);
        const style = make("style", "", `@page { @top-left { content: ${book}; } }\n`);
        document.querySelectorAll("section.page").forEach((page, k) => {
            page.style.page = `chapter-${k}`;
            const title = JSON.stringify(text(heading(page)));
            style.append(`@page chapter-${k} { @top-right { content: ${title}; } }\n`);
        });
        document.head.append(style);
    };

    whole.compose = async ({title, author, year, pages}) => {
        const keys = new Map(pages.map(({key, url}) => [url, key]));
        for (const page of pages) {
            const source = new DOMParser().parseFromString(page.html, "text/html");
            const article = source.querySelector("article.bd-article");
            still(article, page.stills);
            article.querySelectorAll(DROPPED).forEach((element) => element.remove());
            unfold(article);
            address(article, page, keys);
            join(article);
            const section = make("section", "page", ...article.childNodes);
            section.id = page.key;
            if (page.part) section.dataset.part = page.part;
            document.body.append(section);
        }
        document.body.prepend(titlePage({title, author, year}), contentsPage());
        await MathJax.startup.promise;
        await MathJax.typesetPromise([...document.querySelectorAll(".math")]);
        for (const {math, typesetRoot} of formulas()) {
            typesetRoot.querySelector("mjx-assistive-mml")?.remove(); // would be printed, unseen
            typesetRoot.setAttribute("role", "img");
            typesetRoot.setAttribute("aria-label", math.trim());
        }
        for (const formula of document.querySelectorAll("mjx-container[display='true']")) {
            const fits = formula.clientWidth / formula.scrollWidth;
            if (fits < 1) formula.style.fontSize = `${Math.floor(99 * fits)}%`;
        }
        runningTitles();
        await Promise.all([...document.images].map((image) => image.decode()));
        await document.fonts.ready;
    };

    // --- formulas as MathML ---

    // The letters of an alphabet are characters of their own: browsers no longer read mathvariant.
    const ALPHABETS = {
        "bold": [0x1d400, 0x1d41a], "italic": [0x1d434, 0x1d44e], "bold-italic": [0x1d468, 0x1d482],
        "script": [0x1d49c, 0x1d4b6], "fraktur": [0x1d504, 0x1d51e], "double-struck": [0x1d538, 0x1d552],
    };
    const ELSEWHERE = { // letters that Unicode had before
        0x1d49d: 0x212c, 0x1d4a0: 0x2130, 0x1d4a1: 0x2131, 0x1d4a3: 0x210b, 0x1d4a4: 0x2110, 0x1d4a7: 0x2112,
        0x1d4a8: 0x2133, 0x1d4ad: 0x211b, 0x1d53a: 0x2102, 0x1d53f: 0x210d, 0x1d545: 0x2115, 0x1d547: 0x2119,
        0x1d548: 0x211a, 0x1d549: 0x211d, 0x1d551: 0x2124, 0x1d455: 0x210e,
    };
    const inAlphabet = (letters, [capitals, small]) => letters.replace(/[A-Za-z]/g, (letter) => {
        const isSmall = letter >= "a";
        const code = letter.charCodeAt(0) - (isSmall ? 97 : 65) + (isSmall ? small : capitals);
        return String.fromCodePoint(ELSEWHERE[code] ?? code);
    });

    const mathml = (item) => {
        const source = MathJax.startup.toMML(item.root);
        const math = new DOMParser().parseFromString(source, "application/xml").documentElement;
        for (const element of [math, ...math.querySelectorAll("*")]) {
            const variant = element.getAttribute("mathvariant");
            if (variant in ALPHABETS) {
                element.textContent = inAlphabet(element.textContent, ALPHABETS[variant]);
                element.removeAttribute("mathvariant");
            }
            for (const {name} of [...element.attributes])
                if (/^(data-|class$)/.test(name)) element.removeAttribute(name);
        }
        // A function's name is set off from what it is applied to, but for brackets.
        for (const applied of math.querySelectorAll("mo")) {
            const argument = applied.nextElementSibling?.textContent.trim();
            if (applied.textContent === "\u2061" && argument && !/^[([{]/.test(argument))
                applied.setAttribute("rspace", "0.167em");
        }
        // Browsers read neither the columns' alignment nor their distance from a table.
        for (const table of math.querySelectorAll("mtable[columnalign]")) {
            const sides = table.getAttribute("columnalign").split(" ");
            for (const row of table.children) [...row.children].forEach((cell, k) => {
                const side = sides[Math.min(k, sides.length - 1)];
                const padding = {right: "padding-right: 0", left: "padding-left: 0"}[side] ?? "";
                cell.setAttribute("style", `text-align: ${side}; ${padding}`);
            });
        }
        math.setAttribute("alttext", item.math.replace(/\s+/g, " ").trim());
        return math;
    };

    const formulas = () => [...MathJax.startup.document.math];

    // A heading's words; a formula in it is read from its MathML.
    const text = (source) => {
        const copy = source.cloneNode(true);
        const roots = [...source.querySelectorAll("mjx-container")];
        copy.querySelectorAll("mjx-container").forEach((formula, k) => {
            const item = formulas().find(({typesetRoot}) => typesetRoot === roots[k]);
            formula.replaceWith(mathml(item).textContent.replace(/\s+|[\u2061-\u2064]/g, ""));
        });
        return copy.textContent.replace(/\s+/g, " ").trim();
    };

    whole.contents = () => sections().map(({heading, ...entry}) => ({...entry, title: text(heading)}));

    // The numbers of the pages, once they are known.
    whole.number = (numbers) => {
        for (const folio of document.querySelectorAll(".folio")) folio.textContent = numbers[folio.dataset.of];
    };

    // --- chapters of an EPUB ---

    const SHOWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap",
        "stroke-linejoin", "opacity", "font-family", "font-size", "font-style", "font-weight",
        "text-anchor", "display", "paint-order"];

    // A drawing as a file, with the style that it has here.
    const drawing = (svg) => {
        const copy = svg.cloneNode(true);
        const twins = [copy, ...copy.querySelectorAll("*")];
        [svg, ...svg.querySelectorAll("*")].forEach((element, k) => {
            const style = getComputedStyle(element), twin = twins[k];
            twin.removeAttribute("class");
            twin.removeAttribute("style");
            const above = element === svg ? null : getComputedStyle(element.parentElement);
            const own = SHOWN.map((name) => [name, style.getPropertyValue(name)]).filter(([name, value]) => {
                if (name === "display") return value === "none";
                return name === "opacity" ? value !== "1" : value !== above?.getPropertyValue(name);
            });
            if (own.length) twin.setAttribute("style", own.map((pair) => pair.join(": ")).join("; "));
        });
        for (const name of ["role", "aria-label", "aria-hidden"]) copy.removeAttribute(name);
        const {width, height} = svg.viewBox.baseVal;
        copy.setAttribute("width", width);
        copy.setAttribute("height", height);
        const paper = document.createElementNS(svg.namespaceURI, "rect");
        for (const [name, value] of Object.entries({width: "100%", height: "100%", fill: "#fff"}))
            paper.setAttribute(name, value);
        copy.prepend(paper);
        return new XMLSerializer().serializeToString(copy);
    };

    const ALLOWED = /^(id|class|href|src|alt|colspan|rowspan|start|type|value|title|lang|xmlns|style)$/;

    // Each page as XHTML, with the drawings that it shows.
    whole.chapters = () => {
        const drawings = {};
        for (const svg of document.querySelectorAll("section.page svg")) {
            if (!svg.hasAttribute("aria-label") || svg.ownerSVGElement) continue;
            const name = `drawing-${Object.keys(drawings).length + 1}.svg`;
            drawings[name] = drawing(svg);
            const image = make("img", "drawing");
            image.alt = svg.getAttribute("aria-label");
            image.src = `images/${name}`;
            svg.dataset.done = name;
            svg.after(image);
        }
        document.querySelectorAll("section.page svg[data-done]").forEach((svg) => svg.remove());
        for (const item of formulas())
            item.typesetRoot.replaceWith(document.importNode(mathml(item), true));
        const files = new Map();
        const chapters = [...document.querySelectorAll("section.page")].map((page) => {
            for (const link of page.querySelectorAll("a[href^='#']")) {
                const id = link.getAttribute("href").slice(1);
                const home = document.getElementById(id)?.closest("section.page").id;
                link.setAttribute("href", id === home ? `${home}.xhtml` : `${home}.xhtml#${id}`);
            }
            for (const image of page.querySelectorAll("img:not(.drawing)")) {
                const name = image.src.split("/").at(-1);
                files.set(name, image.src);
                image.setAttribute("src", `images/${name}`);
            }
            const inFormulas = new Set(page.querySelectorAll("math, math *"));
            for (const element of [page, ...page.querySelectorAll("*")]) {
                if (inFormulas.has(element)) continue;
                for (const {name} of [...element.attributes])
                    if (!ALLOWED.test(name)) element.removeAttribute(name);
                if (element.tagName !== "IMG" && element.tagName !== "TD") element.removeAttribute("style");
            }
            return {id: page.id, xhtml: new XMLSerializer().serializeToString(page)};
        });
        return {chapters, drawings, files: Object.fromEntries(files)};
    };
}
window.whole = whole;
