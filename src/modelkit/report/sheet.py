"""The style sheet of all pages: light, dark and printed, on wide and narrow screens.

Blue grey, orange and purple are distinguished by all common kinds of colour vision, and blue grey
and orange by their lightness in print. `PLOT` is the part of the sheet that plots need: a card has
no other sheet, so there its colours are the second ones, which stand out from white and from black.
"""

from __future__ import annotations

BLUE = "#3b82c4"
RED = "#d1493b"
LINE = "rgba(128,128,128,.45)"
PLOT = f"""
.plot{{width:100%;height:auto;display:block;margin-top:6px}}
.plot text{{font:11px system-ui,sans-serif;fill:var(--soft,currentColor)}}
.plot .rule,.plot .axis,.plot .limit,.plot .curve,.plot .bar,.plot polyline{{fill:none;stroke-width:.8}}
.plot .axis{{stroke:var(--soft,currentColor)}}.plot .rule{{stroke:var(--line,{LINE})}}
.plot .limit{{stroke:var(--soft,currentColor);stroke-dasharray:4 3}}
.plot .curve{{stroke:var(--first,{BLUE});stroke-width:1.9}}
.plot .c1,.plot .c3{{stroke:var(--second,{RED})}}.plot .c4{{stroke:var(--soft,currentColor)}}
.plot .c2,.plot .c3{{stroke-dasharray:6 3}}
.plot .bar{{stroke:var(--first,{BLUE});stroke-width:1.6}}
.plot .thick{{stroke-width:6;stroke-opacity:.45}}
.plot .bad{{stroke:var(--bad,{RED})}}.plot text.bad{{stroke:none;fill:var(--bad,{RED})}}
.plot text.name{{font-weight:600;fill:var(--ink,currentColor)}}
.plot .good{{stroke:var(--first,{BLUE})}}.plot text.good{{stroke:none;fill:var(--first,{BLUE})}}
.plot .mark{{stroke:var(--second,{RED});stroke-width:1.4}}
svg.row{{width:160px;height:16px;margin:2px 0 0;display:inline-block}}
.plot .dot{{fill:var(--first,{BLUE})}}
.plot .old{{fill:var(--first);fill-opacity:.6}}
.plot .new{{fill:var(--second)}}
.plot polyline.old{{fill-opacity:.5}}
.plot polyline.new{{fill:none;stroke:var(--second);stroke-width:1.8}}
.plot .hit rect{{fill:transparent}}.plot .hit rect:hover{{fill:var(--ink);fill-opacity:.12}}
@media (max-width:520px){{.plot text{{font-size:13px}}}}
"""
_PRINTED = """--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--first:#4a7ba6;--second:#c2570c;
--third:#7a3e9d;--bad:#b42318;--badbg:#fff;--good:#1a7f37;--goodbg:#fff"""
SHEET = f"""
:root{{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;
--first:#4a7ba6;--second:#c2570c;--third:#7a3e9d;
--bad:#b42318;--badbg:#fff1ef;--good:#1a7f37;--goodbg:#eefbf1}}
@media (prefers-color-scheme:dark){{:root{{--paper:#15191f;--ink:#e6edf3;--soft:#9aa7b4;
--line:#343c46;--first:#7fb0dc;--second:#ff9a52;--third:#c79bf2;
--bad:#ff9489;--badbg:#331a1a;--good:#6fd08a;--goodbg:#14281b}}}}
body{{background:var(--paper);color:var(--ink);font:14px/1.5 system-ui,sans-serif;
max-width:1180px;margin:1.5em auto;padding:0 16px}}
h1{{font-size:20px;margin:0 0 6px;overflow-wrap:anywhere}}h2{{font-size:15px;margin:26px 0 8px}}
h3{{font-size:14px;margin:0;overflow-wrap:anywhere}}
p{{margin:4px 0;max-width:64em}}ul{{margin:4px 0;padding-left:20px;max-width:82em}}
li{{overflow-wrap:anywhere;margin:3px 0}}
.soft{{color:var(--soft)}}.num{{white-space:nowrap;font-variant-numeric:tabular-nums}}
.lead{{font-size:17px;line-height:1.4;font-weight:600;margin:2px 0 8px;overflow-wrap:anywhere}}
.box,section{{border:1px solid var(--line);border-radius:6px;padding:10px 14px}}
.box{{margin:12px 0}}.bad{{border-left:5px solid var(--bad);background:var(--badbg)}}
.good{{border-left:5px solid var(--good);background:var(--goodbg)}}
.grid{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:12px;
align-items:start}}
.pair{{grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));align-items:stretch}}
.wide{{overflow-x:auto;margin-bottom:10px}}table{{border-collapse:collapse}}
th,td{{text-align:left;vertical-align:top;padding:3px 16px 3px 0;border-top:1px solid var(--line)}}
.wide td{{overflow-wrap:break-word;min-width:3em;max-width:50em}}
th{{font-weight:normal;color:var(--soft);border:0;white-space:nowrap}}
dl{{display:grid;grid-template-columns:fit-content(34%) 1fr;gap:2px 14px;margin:4px 0}}
dt{{color:var(--soft)}}dd{{margin:0;overflow-wrap:anywhere}}
.tag{{color:var(--bad);border:1px solid;border-radius:9px;padding:0 7px;margin-left:6px;
font-size:12px;font-weight:600;white-space:nowrap}}
.legend{{display:flex;flex-wrap:wrap;gap:4px 18px;margin:6px 0 10px;align-items:center}}
.key i{{display:inline-block;width:24px;height:9px;margin-right:6px}}
.key .old{{background:var(--first);opacity:.6}}.key .new{{background:var(--second)}}
{PLOT}
@media (max-width:620px){{svg.row{{display:none}}}}
@media (max-width:520px){{body{{padding:0 10px;margin:.7em auto}}.lead{{font-size:16px}}
.wide table{{width:max-content}}.wide td{{max-width:12em}}}}
@media print{{:root{{color-scheme:light;{_PRINTED}}}body{{margin:0}}.grid{{display:block}}
section,.box{{break-inside:avoid;margin-bottom:10px}}
*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}}}
"""
