"""The script of the page, in a browser, where there is one."""

import re
import shutil
import subprocess

from made_up_runs import make_gold, make_search
import pytest

from jnas.runs import report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_a_browser_runs_it_to_the_end(tmp_path):
  runs = [make_gold(tmp_path / "gold"), make_search(tmp_path / "search", 6)]
  report.write([runs[0]])
  pages = [report.write([runs[1]]), report.write(runs, tmp_path / "all.html")]
  for page in pages:
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    command += ["--virtual-time-budget=2000", page.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    text = re.sub(r"<script.*?</script>", "", found.stdout, flags=re.S)
    figures = text.count('class="picture')
    assert figures > 4
    assert text.count('class="tools"') == figures
    assert text.count(">smooth<") > 2 and text.count("data-zoom") > 4
    heads = text.count("<th", text.index("<thead")) if "<thead" in text else 0
    assert heads == 0 or 'aria-sort="none"' in text
    # What comes last in it.
    assert ("history on" in text) == ("search" in page.parent.name)
