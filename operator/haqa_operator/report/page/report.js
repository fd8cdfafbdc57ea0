"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("plots").textContent);
  const narrow = matchMedia("(max-width: 640px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Plots: the page brings what depends on it (colours, width), the figures the rest.

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function axis(given, wide) {
    const made = {
      gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--line"),
      automargin: true, fixedrange: !wide, ...given,
    };
    // Beside a narrow plot there is no room for configurations: their numbers have to do.
    if (!wide && given && given.categoryarray) {
      made.tickvals = given.categoryarray;
      made.ticktext = given.categoryarray.map((text) => text.split(" ")[0]);
    }
    if (given && given.title) made.title = { ...given.title, font: { size: wide ? 13 : 11 } };
    return made;
  }

  function layout(given) {
    const wide = !narrow.matches;
    return {
      ...given,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: wide ? 13 : 11, color: colour("--text") },
      hoverlabel: { align: "left", bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
      hovermode: "closest", dragmode: wide ? "zoom" : false,
      margin: { l: wide ? 60 : 44, r: wide ? 20 : 6, t: 12, b: 48 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...given.legend },
      showlegend: true, uniformtext: { mode: "hide", minsize: 10 },
      xaxis: axis(given.xaxis, wide), yaxis: axis(given.yaxis, wide),
    };
  }

  // The interval over a bar has to be seen against the page, not against the bar.
  const trace = (given) => given.type === "bar" && given.error_y
    ? { ...given, error_y: { ...given.error_y, color: colour("--quiet") } } : given;

  const options = { responsive: true, displayModeBar: false };

  function draw() {
    const drawn = Object.entries(figures).map(([id, figure]) => {
      // A narrow legend has a line for every entry: the plot itself keeps its height.
      const legend = narrow.matches ? 15 * figure.data.length : 0;
      document.getElementById(id).style.height = `${figure.height + legend}px`;
      return Plotly.react(id, figure.data.map(trace), layout(figure.layout), options);
    });
    return Promise.all(drawn).then(() => { root.dataset.plots = "drawn"; });
  }

  // Light and dark: the system's, until somebody presses the button.

  const theme = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  function themed() {
    theme.textContent = isDark() ? "Light" : "Dark";
    if (Object.keys(figures).length) draw();
  }
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; themed(); });
  dark.addEventListener("change", themed);
  narrow.addEventListener("change", themed);

  // Tables sort by what a cell says it sorts by, else by its text; what has no value stays last.

  function key(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.sort !== undefined) return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    return cell.classList.contains("number") ? null : cell.textContent.trim();
  }

  function sort(table, column, up) {
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return (typeof a === "number" ? a - b : a.localeCompare(b)) * (up ? 1 : -1);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      const text = head.querySelector(".term");
      if (text) button.title = text.title;
      button.textContent = head.textContent.trim();
      head.replaceChildren(button);
      if (head.dataset.unit) {
        const unit = document.createElement("span");
        unit.className = "note";
        unit.textContent = head.dataset.unit;
        head.append(unit);
      }
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === null && column < 3);
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up);
      });
    });
  }

  // Copying: by the clipboard where the browser gives it, else by selecting the text.

  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
    });
  }

  // A link to a trial opens it; printing opens everything, and makes the plots light for paper.

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", reveal);
  reveal();
  let onScreen;
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    onScreen = root.dataset.theme;
    root.dataset.theme = "light";
    themed();
  });
  addEventListener("afterprint", () => {
    if (onScreen) root.dataset.theme = onScreen; else delete root.dataset.theme;
    themed();
  });

  themed();
})();
