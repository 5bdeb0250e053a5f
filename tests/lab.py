"A real JupyterLab in a real browser: a server in a folder of its own, and a notebook that is opened, run, saved and read."
import json, os, re, secrets, socket, subprocess, sys, time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

settings = { # no windows at the start, no look-ups in the net, all cells in the page
    '@jupyterlab/apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False),
    '@jupyterlab/notebook-extension/tracker': dict(windowingMode='none')}

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

shots = os.environ.get('SCREENSHOTS')

def shot(page, name, i=0):
    "A picture of cell `i`, if there is a folder for it"
    if shots: page.cell(i).screenshot(path=str(Path(shots)/f'{name}.png'))

class Lab:
    "A JupyterLab server that works in `folder`; to be used with `with`"
    def __init__(self, folder):
        self.folder,self.root,self.port,self.token = Path(folder),Path(folder)/'root',free_port(),secrets.token_hex(16)

    def __enter__(self):
        self.root.mkdir(parents=True, exist_ok=True)
        for name,value in settings.items():
            path = self.folder/'settings'/f'{name}.jupyterlab-settings'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))
        own = dict(JUPYTER_CONFIG_DIR='config', JUPYTER_DATA_DIR='data', JUPYTER_RUNTIME_DIR='runtime', JUPYTERLAB_SETTINGS_DIR='settings', JUPYTERLAB_WORKSPACES_DIR='workspaces', IPYTHONDIR='ipython', HOME='home')
        env = os.environ | {k: str(self.folder/v) for k,v in own.items()} | dict(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        options = dict(ip='127.0.0.1', port=self.port, port_retries=0, root_dir=self.root, quit_button=False, terminals_enabled=False)
        command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--IdentityProvider.token={self.token}', '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly']
        self.log = open(self.folder/'server.log', 'wb')
        self.process = subprocess.Popen([*command, *(f'--ServerApp.{k}={v}' for k,v in options.items())], env=env, stdout=self.log, stderr=subprocess.STDOUT)
        try: self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate() # the server ends its kernels itself
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        self.log.close()

    def wait(self, seconds=90):
        ask,end = build_opener(ProxyHandler({})).open,time.time()+seconds
        while True:
            try: return ask(f'http://127.0.0.1:{self.port}/api/status?token={self.token}', timeout=5).close()
            except URLError:
                if self.process.poll() is not None or time.time() > end: raise RuntimeError((self.folder/'server.log').read_text()[-3000:]) from None
                time.sleep(.1)

    def write(self, name, *cells, metadata=None):
        "A notebook of code cells"
        cells = [dict(cell_type='code', id=f'cell-{i}', metadata={}, source=o, outputs=[], execution_count=None) for i,o in enumerate(cells)]
        kernel = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
        (self.root/name).write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=kernel, cells=cells)))

class Page:
    "A notebook, open in a browser"
    app = 'window.jupyterapp'
    kernel = f'{app}.shell.currentWidget.sessionContext.session?.kernel'

    def __init__(self, lab, browser, name, dark=False, kernel=True, size=(1000, 1100)):
        self.lab,self.path,self.said,self.sent = lab,lab.root/name,[],[]
        self.context = browser.new_context(viewport=dict(zip(('width', 'height'), size)), color_scheme='dark' if dark else 'light', locale='en-US', device_scale_factor=2)
        self.context.route(lambda url: not url.startswith(('http://127.0.0.1', 'data:', 'blob:')), lambda route: route.abort())
        self.page = p = self.context.new_page()
        p.on('console', lambda m: self.said.append(f'{m.type}: {m.text}'))
        p.on('pageerror', lambda e: self.said.append(f'error: {e}'))
        p.on('request', lambda r: self.sent.append(f'{r.method} {r.url}'))
        p.goto(f'http://127.0.0.1:{lab.port}/doc/tree/{name}?token={lab.token}&reset', wait_until='domcontentloaded')
        p.wait_for_function(f'async () => {self.app} && (await {self.app}.restored, true)', timeout=60_000)
        p.wait_for_selector('.jp-Notebook .jp-Cell', timeout=60_000)
        if not kernel: p.locator('.jp-Dialog').get_by_role('button', name='No Kernel', exact=True).click(timeout=60_000) # the toolbar has one of this name, too
        self.do('apputils:change-theme', theme='JupyterLab Dark' if dark else 'JupyterLab Light') # the server keeps the last one
        if kernel: p.wait_for_function(f"() => {self.kernel}?.connectionStatus === 'connected' && {self.kernel}.status === 'idle'", timeout=60_000)

    def do(self, command, wait=True, **args):
        "A command of JupyterLab, as its menus and buttons do it"
        self.page.evaluate(f"async ([c, a, wait]) => {{ const o = {self.app}.commands.execute(c, a); if (wait) await o }}", [command, args, wait])

    def run_all(self):
        self.page.wait_for_function(f"() => {self.app}.commands.isEnabled('notebook:run-all-cells')", timeout=20_000)
        self.do('notebook:run-all-cells', wait=False)

    def js(self, code): return self.page.evaluate(code)
    def cell(self, i): return self.page.locator('.jp-Notebook .jp-Cell').nth(i)
    def output(self, i): return self.cell(i).locator('.jp-OutputArea').first
    def prompt(self, i): return self.cell(i).locator('.jp-InputPrompt').first
    def errors(self): return [o for o in self.said if o.startswith('error')]

    def has(self, i, text, seconds=60):
        "Wait until cell `i` displays `text`"
        from playwright.sync_api import expect
        expect(self.output(i)).to_contain_text(text, timeout=seconds*1000)

    def save(self):
        self.do('docmanager:save')
        self.page.wait_for_function(f'() => !{self.app}.shell.currentWidget.context.model.dirty', timeout=20_000)
        return json.loads(self.path.read_text())

    def shutdown(self):
        "End the kernel"
        self.page.evaluate(f'async () => {{ await {self.app}.shell.currentWidget.sessionContext.shutdown() }}')

    def close(self): self.context.close()
