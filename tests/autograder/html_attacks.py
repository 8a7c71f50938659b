"""What a student may write to reach an instructor's page: Markdown, and the HTML of an output."""

from __future__ import annotations

__all__ = ["ATTACKS", "PIXEL"]

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: In the words of `small_course`: `test_mean` and `why` are names of graded cells.
ATTACKS = {
    "buttons": '<div class="nbgrader_cell"><span id="test_mean"></span><span id="why-comment">'
    '</span><p class="full-credit">click me</p><p class="no-credit">click me</p></div>',
    "inputs": '<input id="test_mean" class="score tabbable"><textarea id="why-comment" '
    'class="comment tabbable">x</textarea><button class="full-credit">click me</button>',
    "names": '# test_mean\n\n## why\n\n<a name="test_mean" id="why">x</a><img name="body" alt="x">',
    "cover by class": '<div class="navbar navbar-fixed-top modal-backdrop">18 / 18</div>',
    "cover by style": '<div style="position:fixed; top:0; left:0; z-index:9999; width:9999px; '
    'height:9999px; margin:-999px; background-color:white; color:red">18 / 18</div>',
    "cover by CSS": "<style>.score { display: none } * { position: fixed }</style>",
    "cover by TeX": r"$\raise{50em}{\rlap{\hspace{-50em}\rule{99em}{99em}}}$ $\rule{99em}{99em}$",
    "cover by accents": "e" + "\u0301" * 500,
    "logout by picture": '<img src="x/../../../../logout"> ![](x/../../../../logout) ![](/logout)',
    "logout by other pictures": '<img srcset="/logout 1x" src="data:image/png;base64,aGk=" '
    'longdesc="/logout"><video poster="/logout" src="/logout"></video><picture><source '
    'srcset="/logout"></picture><audio src="/logout" autoplay></audio><body background="/logout">'
    '<table background="/logout"><tr><td background="/logout">x</td></tr></table>'
    '<b style="background:url(/logout); list-style:url(/logout); color:url(logout)">x</b>',
    "pictures from elsewhere": "![](https://evil.example/x.png) ![](//evil.example/x.png) "
    r"![](\\evil.example\x.png) <img src='data:image/svg+xml;base64,aGk='> <image src='/logout'>",
    "forms": '<form action="/logout" method="post"><button formaction="/logout">click me</button>'
    '<input type="image" src="/logout"><select autofocus onfocus="window.ran = 1"></form>',
    "head": '<meta http-equiv="refresh" content="0;url=/logout"><base href="https://evil.example/">'
    '<link rel="stylesheet" href="/logout"><link rel="prefetch" href="https://evil.example/">',
    "links": "[a](javascript:window.ran=1) [b](/logout) [c](//evil.example) [d](https:logout) "
    '[e](../submissions) [f](#why) <a href="java&#9;script:window.ran=1">g</a> '
    '<a href="https:\\logout">h</a> <a href="&#x2F;logout" ping="/logout" download>i</a> '
    '<a href="https:///logout">j</a> <a href="data:text/html,x">k</a> <area href="/logout">',
    "frames": '<iframe src="/logout" srcdoc="<script>parent.ran = 1</script>"></iframe>'
    '<object data="/logout"></object><embed src="/logout"><frameset><frame src="/logout">',
    "scripts": "<script>window.ran = 1</script><SCRIPT/x>window.ran = 1</ScRiPt ><script\x00>"
    "</script><img src=x onerror='window.ran = 1'><b onclick=window.ran=1>click me</b>",
    "SVG": '<svg onload="window.ran = 1"><a><animate attributeName="&#104;ref" values="/logout"/>'
    '<text y="9">click me</text></a><script>window.ran = 1</script><use href="/logout#x"/>'
    '<foreignObject><p id="why" class="full-credit">x</p></foreignObject></svg>',
    "mutations": '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 '
    'onerror=window.ran=1&gt;"></math><noscript><p title="</noscript><img src=x onerror=ran=1>">'
    '</noscript><template shadowrootmode="open"><p id="why">x</p></template>',
    "raw text": "<textarea><title></textarea><img src=x onerror='window.ran = 1'></title><xmp>"
    "<p id=why></xmp><plaintext>",
    "comments": "<!--><img src=x onerror='window.ran = 1'>--> "
    "<![CDATA[<b id=why>]]> <?x <b id=why>",
    "MathJax": r"$\href{/logout}{x} \class{full-credit}{\cssId{test_mean}{y}} \\href{/logout}{z}$ "
    r"\begin{equation}\label{why}\style{position:fixed}{x}\end{equation} $$\unicode{65}\bbox[x]y$$",
    "MathJax in pieces": r"$\hr<!-- -->ef{/logout}{x} \&#104;ref{/logout}{y} "
    r"\cl<font>ass{score}{z}$",
    "MathJax for others": r"$\renewcommand{\frac}[2]{18} \def\mean{18} "
    r"\let\sum=\prod \require{html}$",
    "quotes": """<img alt='"><p id="why">' src="data:image/png;base64,aGk="> """
    """<b title='" id="why'>x</b> <td colspan='1" id="why'> """
    """![" id="why](data:image/png;base64,aGk= '" id="why')""",
    "data attributes": '<a data-link="/logout" data-toggle="modal" data-target="#why" '
    'aria-label="x" accesskey="x" contenteditable tabindex="1" hidden>click me</a>',
    "languages": '```nbgrader_cell\nx\n```\n\n```mermaid\nx\n```\n\n``` x"id="why\ny\n```',
    "ends": "</div></div></div></div></section></pre></span></td></table></p><p>outside</p>",
    "ends by lists": "<li><div><li></li></div></li><dd><div><dt></dt></div></dd></div></div>out",
    "ends by tables": "<table><div><table></table></div></table><table><tr><div><td></div></td>out",
    "ends by links": "<a><div><a></div></a><b><p></b><i></p></div></i>out",
    "files": '<a href="/files//evil.example/x">a</a> [b](/files/javascript:x) ![](files//logout)',
    "attached": "![](attachment:evil.svg) ![](attachment:a&quot; id=&quot;why) "
    "![](attachment:none)",
    "terminal": '\x1b[31;1mred\x1b[0m \x1b[31" id="whym \x1b]8;;https://evil.example\x07x '
    "\x1b[<b id=why>m",
    "directions": "\u202e81 / 81\u202c \u2066<b id='why'>x",
}
