// Draws the plots from the JSON beside them, in the colours of the page, and again where width or colours change.
(() => {
  "use strict";
  const LEGEND_ENTRY = 232, LEGEND_ROW = 21, PRINTED_WIDTH = 680;
  const MARGIN = {l: 64, r: 16, t: 28, b: 56};
  const CONFIG = {displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};
  const plots = [...document.querySelectorAll(".plot")].map((box) => ({
    box, figure: JSON.parse(box.closest("figure").querySelector(".plot-data").textContent),
  }));

  function template() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
      tickcolor: colour("--line"), showline: true, ticks: "outside", automargin: true,
    };
    return {data: {heatmap: [{textfont: {color: colour("--ink")}}]}, layout: {
      font: {color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13},
      paper_bgcolor: colour("--paper"), plot_bgcolor: colour("--paper"), xaxis: axis, yaxis: axis,
      hoverlabel: {bgcolor: colour("--ground"), bordercolor: colour("--line"), font: {color: colour("--ink")}},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--accent")},
    }};
  }

  // The legend stands below the plot in as many columns as fit, and the figure grows by its rows.
  function layout(figure, width) {
    const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    const columns = Math.max(1, Math.floor((width - MARGIN.l - MARGIN.r) / LEGEND_ENTRY));
    const legend = named > 1 ? Math.ceil(named / columns) * LEGEND_ROW + 12 : 0;
    const plain = figure.layout;
    const margin = {...MARGIN, ...plain.margin};
    return {
      ...plain, template: template(), width, height: plain.height + legend, uirevision: "kept",
      margin: {...margin, b: margin.b + legend}, showlegend: named > 1,
      legend: {
        orientation: "h", xref: "container", x: 0, yref: "container", y: 0, yanchor: "bottom",
        entrywidth: LEGEND_ENTRY - 48, tracegroupgap: 0,
      },
    };
  }

  function draw(width) {
    return Promise.all(plots.map(({box, figure}) => {
      return Plotly.react(box, figure.data, layout(figure, width ?? box.clientWidth), CONFIG);
    }));
  }

  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) {  // a phone's address bar changes the height alone
      width = innerWidth;
      draw();
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    draw(PRINTED_WIDTH);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    draw();
  });
  draw().then(() => { document.documentElement.dataset.drawn = plots.length; });
})();
