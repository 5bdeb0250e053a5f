"Run the quickstart in a real kernel inside `demo/`, and say what came of it: `python tests/demo.py`"
import json, shutil, sys, time
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import write
from nbformat.v4 import new_code_cell
from kernel import execute, root

folder = root/'demo'
quickstart = root/'nbs/tutorials/quickstart.ipynb'

# Runs in the notebook's kernel, after its last cell: what its variables `ft` (a Run), `onnx` (a Bundle) and
# `scores` (before and after, by metric) hold, as JSON
probe = '''
def _said():
    import json
    g = globals()
    run,bundle,scores = (g.get(k) for k in ('ft', 'onnx', 'scores'))
    if hasattr(scores, 'table'): scores = scores.table.T.to_dict()
    return json.dumps(dict(
        run=run is not None and dict(path=str(run.path), status=run.status), scores=scores,
        bundle=bundle is not None and dict(path=str(bundle.path), report=bundle.report)), default=str)
print(_said())
'''

def follow(cell, cell_index):
    "Show the first line of `cell` as it starts"
    lines = [o for o in cell.source.splitlines() if o.strip() and not o.startswith('#|')]
    if cell.cell_type=='code' and lines and '_said' not in cell.source: print(f'{time.time()-start:5.0f} s  {lines[0][:100]}', flush=True)

def show(label, value, form='{}'):
    if value is not None: print(f'  {label:<22}{form.format(value)}')

def report(said):
    "What the demo has to show for itself"
    scores,run,bundle = said['scores'] or {},said['run'],said['bundle']
    print()
    for nm,v in scores.items():
        print(f"  {nm:<22}{v['before']:.3f} → {v['after']:.3f}")
    if run:
        path = folder/run['path']
        show('run', f'{path} ({run["status"]})')
        show('picture', next((str(p) for p in [path/'curves.png'] if p.exists()), None))
    if bundle:
        report = bundle['report']
        proof = report['proof']
        show('ONNX folder', f"{folder/bundle['path']} ({report['chosen']})")
        show('KL to the trained', proof['kl'], '{:.2g} nats per token')
        show('same first choice', proof['top1'], '{:.1%}')
        show('size', f"{report['stages'][0]['size_mb']:.1f} → {report['size_mb']:.1f} MB")
        show('speed', f"{report['stages'][0]['tokens_per_s']:.0f} → {report['tokens_per_s']:.0f} tokens/s")

start = time.time()
if not quickstart.exists(): sys.exit(f'{quickstart.relative_to(root)} is not there')
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()
print(f'Running {quickstart.relative_to(root)} in {folder.name}/')
try: nb = execute(quickstart, folder, on_cell_execute=follow, last=new_code_cell(probe))
except CellExecutionError as e: sys.exit(f'\nThe quickstart failed:\n{e}')
said = json.loads(nb.cells.pop().outputs[-1].text)
write(nb, folder/quickstart.name)
(folder/'quickstart.html').write_text(HTMLExporter().from_notebook_node(nb)[0], encoding='utf-8')
report(said)
show('the notebook', folder/'quickstart.html')
show('time', time.time()-start, '{:.0f} s')
