"Run a notebook as a person would: cell by cell in a real kernel, in a folder of its own; or a kernel alone, with a frontend that listens."
import os
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat import read
from nbdev.config import get_config
from nbdev.process import extract_directives

root = Path(__file__).resolve().parents[1]
offline = dict(HF_HUB_OFFLINE='1', ORT_DISABLE_TELEMETRY='1', TOKENIZERS_PARALLELISM='false')
os.environ |= offline

def flags(cell):
    "Names of the `#|` directives of `cell`"
    return extract_directives(deepcopy(cell), remove=False) if cell.cell_type=='code' else {}

class Client(NotebookClient):
    "Runs what `nbdev_test` runs; the other cells keep the outputs they have"
    skip = set(get_config().tst_flags.split())
    async def async_execute_cell(self, cell, *args, **kwargs):
        d = flags(cell)
        if d.get('eval:')==['false'] or self.skip & d.keys() or 'nbdev_export(' in cell.source: return cell
        return await super().async_execute_cell(cell, *args, **kwargs)

def notebooks():
    "All notebooks: the modules in order, then the others"
    nbs = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if not any(o[0] in '._' for o in p.relative_to(root/'nbs').parts)]
    return sorted(nbs, key=lambda p: not is_module(p))

def is_module(path):
    "Does a module come from this notebook?"
    return any('default_exp' in flags(c) for c in read(path, as_version=4).cells)

def execute(
    path,               # notebook
    cwd=None,           # where the kernel works; an empty temporary folder by default
    force=(),           # flags, as `slow`, of cells to run that are normally left out
    last=None,          # a cell to run after the notebook's own
    timeout=900,        # seconds a cell may take
    **kwargs,           # hooks of `NotebookClient`, as `on_cell_execute`
):                      # the notebook with what it displayed; raises `CellExecutionError`
    "Run the notebook at `path` in a new kernel."
    nb = read(path, as_version=4)
    if last: nb.cells.append(last)
    with TemporaryDirectory() as tmp:
        client = Client(nb, timeout=timeout, coalesce_streams=True, resources={'metadata': {'path': str(cwd or tmp)}}, **kwargs)
        client.skip = Client.skip - set(force)
        client.execute()
        return scrub(nb, {str(cwd or tmp): '.', str(root): '.'})

def scrub(nb, names):
    "Replace this machine's folders in what cells displayed"
    def fix(o):
        if isinstance(o, str):
            for a,b in names.items(): o = o.replace(a, b)
        elif isinstance(o, dict): o.update({k: fix(v) for k,v in o.items()})
        elif isinstance(o, list): o[:] = map(fix, o)
        return o
    for c in nb.cells:
        if c.cell_type=='code': fix(c.outputs)
    return nb

class Kernel:
    "A kernel with a frontend that keeps every message, whichever cell it belongs to"
    def __init__(self, cwd, **env):
        self.km,self.kc = start_new_kernel(kernel_name='python3', cwd=str(cwd), env=os.environ | env)
        self.cwd,self.said = Path(cwd),[]

    def close(self):
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=True)

    def hear(self, timeout=.1):
        "Take the messages that have come"
        try:
            while True: self.said.append(self.kc.get_iopub_msg(timeout=timeout))
        except Exception: pass

    def run(self, code, allow_stdin=True, timeout=120):
        "Run a cell to its end: its id, and the reply"
        cell = self.kc.execute(code, allow_stdin=allow_stdin)
        reply = self.kc.get_shell_msg(timeout=timeout)
        while reply['parent_header'].get('msg_id') != cell: reply = self.kc.get_shell_msg(timeout=timeout)
        self.hear()
        return cell, reply['content']

    def of(self, cell, *kinds): return [m for m in self.said if m['parent_header'].get('msg_id') == cell and m['msg_type'] in kinds]
    def text(self, cell): return ''.join(m['content'].get('text', '') or m['content'].get('data', {}).get('text/plain', '') for m in self.of(cell, 'stream', 'execute_result'))
    def frames(self, cell): return [m['content']['data']['text/plain'] for m in self.of(cell, 'display_data', 'update_display_data')]
    def value(self, code): return self.text(self.run(f'print({code})')[0]).strip()
