"""Write the dashboards."""

from __future__ import annotations

from evenkeel.dashboards import FOLDER, render

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (FOLDER / name).write_text(text)
        print(f"dashboards: {FOLDER / name}")
