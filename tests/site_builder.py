"Build the documentation site where Quarto is not installed: `python tests/site_builder.py [folder]`"
import os, re, sys
from html import escape, unescape
from pathlib import Path
from shutil import rmtree
import yaml
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbformat import read
from nbformat.v4 import new_markdown_cell
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve_drv import exec_nb
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

page = '''<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="stylesheet" href="{up}site.css"></head>
<body><nav><details open><summary>{site}</summary>{links}</details></nav>
<main><h1>{title}</h1><div class="lead">{lead}</div>{toc}{body}</main></body></html>'''

def contents():
    "(section, notebook) of each page in the order of the sidebar nbdev makes for Quarto"
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    def walk(items, section):
        for o in items:
            if isinstance(o, str): yield section,Path(o)
            else:
                if 'href' in o: yield o['section'],Path(o['href'])
                yield from walk(o['contents'], o['section'])
    sidebar = yaml.safe_load((get_config().nbs_path/'sidebar.yml').read_text())['website']['sidebar']
    return list(walk(sidebar['contents'], None))

def processed(name):
    "Front matter and notebook of the page `name`, as nbdev prepares it for Quarto"
    cfg = get_config()
    dest = cfg.config_path/'_proc'/name
    dest.parent.mkdir(parents=True, exist_ok=True)
    old,os.environ['IN_TEST'] = os.environ.get('IN_TEST'),'1'
    try: exec_nb(cfg.nbs_path/name, dest, FilterDefaults)
    finally: os.environ.pop('IN_TEST') if old is None else os.environ.update(IN_TEST=old)
    nb = read(dest, as_version=4)
    return yaml.safe_load(nb.cells.pop(0).source.strip().strip('-')),nb

def tidy(nb):
    "Apply the Quarto cell options nbdev leaves in `nb`"
    cells = []
    for c in nb.cells:
        if c.cell_type == 'code':
            opts = dict(re.findall(r'^#\| *([\w-]+): *(\S+)', c.source, re.M))
            c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
            if opts.get('include')=='false': continue
            if opts.get('output')=='false': c.outputs = []
            if opts.get('output')=='asis':
                text = '\n'.join(''.join(o.data.get('text/markdown', '')) for o in c.outputs if 'data' in o)
                c = new_markdown_cell(re.sub(r'\{target=[^}]*\}', '', text))
            elif opts.get('echo')=='false': c.source = ''
        cells.append(c)
    nb.cells = cells
    return nb

def anchor(heading):
    "The id Quarto gives to a heading (Pandoc's manual, `auto_identifiers`)"
    text = re.sub(r'[^\w\s.-]', '', unescape(re.sub(r'<[^>]+>', '', heading)).replace('¶', '')).strip().lower()
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', text)) or 'section'

def headings(body):
    "`body` with Quarto's anchors at the headings, and its second-level headings as (id, text)"
    found,seen = [],{}
    def fix(m):
        level,attrs,text = m.groups()
        text = re.sub(r'<a class="anchor-link".*?</a>', '', text, flags=re.S)
        given = re.search(r'\{#([\w.-]+)[^}]*\}', text)
        id = given[1].lower() if given else anchor(text)
        if given: text = text.replace(given[0], '')
        n = seen[id] = seen.get(id, -1)+1
        if n: id = f'{id}-{n}'
        if level == '2': found.append((id, re.sub(r'<[^>]+>', '', text).strip()))
        return f'<h{level} id="{id}">{text}</h{level}>'
    return re.sub(r'<h([1-6])([^>]*)>(.*?)</h\1>', fix, body, flags=re.S),found

def relink(html, here, hrefs):
    "Turn links to notebooks, and to the published site, into links from the page of notebook `here` to other pages"
    cfg,up = get_config(),'../'*(len(here.parts)-1)
    def fix(m):
        target = hrefs.get(Path(os.path.normpath(here.parent/m[1])))
        return f'href="{up}{target}{m[2] or ""}"' if target else m[0]
    html = re.sub(r'href="(?!\w+:)([^"#]+\.ipynb)(#[^"]*)?"', fix, html)
    return html.replace(f'href="{cfg.doc_host}{cfg.doc_baseurl}/', f'href="{up}')

def sidebar(pages, here):
    "Links from the page of notebook `here` to all, grouped: the folders first, then the modules"
    up,groups = '../'*(len(here.parts)-1),{}
    for name,(section,href,meta,_) in pages.items():
        label = section or ('' if name.stem=='index' else 'modules')
        on = ' class="here" aria-current="page"' if name==here else ''
        groups.setdefault(label, []).append(f'<a href="{up}{href}"{on}>{escape(meta["title"])}</a>')
    order = sorted(groups, key=lambda o: (o!='', o=='modules'))
    return ''.join((f'<b>{escape(o.capitalize())}</b>' if o else '') + ''.join(groups[o]) for o in order)

def exporter():
    "Notebook to HTML; widgets give way to their other forms, since they need a script from the net"
    shown = 'text/html text/markdown image/svg+xml image/png image/jpeg text/latex text/plain'.split()
    return HTMLExporter(template_name='basic', exclude_input_prompt=True, exclude_output_prompt=True,
                        config=Config(NbConvertBase={'display_data_priority': shown}))

def render(nb):
    "The body of the page of `nb`, and its table of contents"
    body,found = headings(exporter().from_notebook_node(tidy(nb))[0])
    body = re.sub(r'<(h\d[^>]*|a href="#[^"]*")>`([^`<]+)`', r'<\1><code>\2</code>', body)
    toc = ''.join(f'<li><a href="#{id}">{text}</a></li>' for id,text in found)
    return body, f'<ul class="toc">{toc}</ul>' if len(found)>1 else ''

def build(dest):
    "Write the site into `dest`, and return its pages"
    cfg,dest = get_config(),Path(dest)
    for o in dest,cfg.config_path/'_proc': rmtree(o, ignore_errors=True)
    pages = {}
    for section,name in contents():
        meta,nb = processed(name)
        pages[name] = section,(name.parent/meta['output-file']).as_posix(),meta,nb
    hrefs = {name: href for name,(_,href,*_) in pages.items()}
    for name,(_,href,meta,nb) in pages.items():
        body,toc = render(nb)
        html = page.format(title=escape(meta['title']), site=escape(cfg.title), links=sidebar(pages, name), toc=toc, body=body,
                           lead=markdown2html(meta.get('description') or ''), up='../'*(len(name.parts)-1))
        (dest/href).parent.mkdir(parents=True, exist_ok=True)
        (dest/href).write_text(relink(html, name, hrefs), encoding='utf-8')
    dark = HtmlFormatter(style='github-dark').get_style_defs('.highlight')
    light = HtmlFormatter(style='friendly').get_style_defs('.highlight')
    css = Path(__file__).with_name('site.css').read_text()
    (dest/'site.css').write_text(f'{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{css}')
    return [dest/href for href in hrefs.values()]

if __name__ == '__main__': print(*build(sys.argv[1] if len(sys.argv)>1 else get_config().doc_path), sep='\n')
