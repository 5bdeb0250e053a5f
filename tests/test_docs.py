"The documentation site is whole: every exported name has an entry, every link leads somewhere, every output is seen."
import importlib, inspect, os, pkgutil, re
from base64 import b64encode
from html import escape
from pathlib import Path
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
import make_readme, site_builder, slm_magic
from kernel import root

modules = [m.name for m in pkgutil.iter_modules(slm_magic.__path__) if m.name[0]!='_' and not m.ispkg]

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('site')

@pytest.fixture(scope='module')
def site(folder): return {str(p.relative_to(folder)): p.read_text() for p in site_builder.build(folder)}

@pytest.mark.parametrize('mod', modules)
def test_names(site, mod):
    "A function or class has an entry with its signature; another value, or a name of another module, is at least spoken of"
    html,lib = site[f'{mod}.html'],importlib.import_module(f'slm_magic.{mod}')
    for nm in lib.__all__:
        o = getattr(lib, nm)
        if (inspect.isroutine(o) or inspect.isclass(o)) and o.__module__ == lib.__name__: assert f'id="{nm.lower()}"' in html, nm
        else: assert re.search(rf'\b{escape(nm)}\b', html), nm

def test_links(site):
    "Links stay inside the site or leave for another; anchors exist"
    for here,html in site.items():
        for link in re.findall(r'<a [^>]*href="(?!\w+:)([^"]*)"', html):
            target,_,anchor = link.partition('#')
            page = os.path.normpath(Path(here).parent/target) if target else here
            assert page in site, f'{here} -> {link}'
            if anchor: assert f'id="{anchor.partition(".")[0]}"' in site[page], f'{here} -> {link}'

def test_sections(site, folder):
    "The sidebar of each page leads to all pages"
    for here,html in site.items():
        nav = re.search('<nav>.*?</nav>', html, re.S)[0]
        links = {os.path.normpath(Path(here).parent/o) for o in re.findall('href="([^"]+)"', nav)}
        assert links == set(site)
        assert nav.count('aria-current') == 1

def test_no_error_is_shown(site):
    "Errors are shown as messages, never as tracebacks"
    for here,html in site.items():
        assert not re.search(r'vnd\.jupyter\.error|output_error|Traceback \(most recent call last\)', html), here

svg = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10"/></svg>'
dot = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

def cell(**data): return new_code_cell('x', outputs=[new_output('display_data', {k.replace('__', '/').replace('_', '+'): v for k,v in data.items()})])

def test_outputs_are_kept():
    "Tables, pictures and text come through; a widget gives way to its still form; options of cells are obeyed"
    still = f'<img alt="curve" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"/>'
    widget = new_code_cell('w', outputs=[new_output('display_data', {'application/vnd.jupyter.widget-view+json': {'model_id': 'm'}, 'text/html': still})])
    cells = [new_markdown_cell('## A head, with `code`'), cell(text__html='<table><tr><td>7</td></tr></table>'), cell(image__png=dot), cell(image__svg_xml=svg), widget,
             new_code_cell('#| echo: false\nsecret', outputs=[new_output('stream', text='<b>said</b>')]), new_code_cell('#| include: false\ngone')]
    html,_ = site_builder.render(new_notebook(cells=cells))
    for part in '<td>7</td>', f'base64,{dot[:20]}', 'image/svg+xml;base64', still, '&lt;b&gt;said', 'id="a-head-with-code"': assert part in html, part
    for part in 'secret', 'gone', 'model_id', '<script': assert part not in html, part

@pytest.mark.parametrize('width', [390, 1280])
def test_in_a_browser(site, folder, browser, width):
    "No broken picture, nothing asked of another server, and no page wider than its window, on a phone and on a desk"
    page = browser.new_page(viewport=dict(width=width, height=900))
    asked = []
    page.on('request', lambda r: asked.append(r.url))
    for here in site:
        page.goto(f'file://{folder}/{here}')
        assert page.evaluate('[...document.images].every(o => o.complete && o.naturalWidth)'), here
        assert page.evaluate('document.documentElement.scrollWidth') <= width, here
    assert not [o for o in asked if o.startswith('http')]

def test_readme():
    "README.md is what nbs/index.ipynb says now"
    text,files = make_readme.readme()
    assert (root/'README.md').read_text() == text, 'run make readme'
    for fn,data in files.items(): assert (root/fn).read_bytes() == data, fn

def test_readme_links():
    "Links of README.md to files lead to files"
    for link in re.findall(r'\]\((?!\w+:|#)([^)#\s]+)', (root/'README.md').read_text()): assert (root/link).exists(), link
