// Draws what the page holds as data: figures by Plotly, in the colours of the scheme; tables by DataTables.
const dark = matchMedia("(prefers-color-scheme: dark)");
const schemes = JSON.parse(document.getElementById("schemes").textContent);
const plots = [...document.querySelectorAll(".plot")];
const settings = { responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg" } };

function draw(template, width) {
  for (const plot of plots) {
    const { data, layout } = JSON.parse(plot.parentElement.querySelector("script").textContent);
    Plotly.react(plot, data, { ...layout, template, width: width?.(plot) }, settings);
  }
}
const onScreen = () => draw(schemes[dark.matches ? "dark" : "light"]);
onScreen();
dark.addEventListener("change", onScreen);
// On paper there are 700 pixels, whatever the window is: two narrow figures beside each other, or a wide one.
const onPaper = plot => parseInt(getComputedStyle(plot).getPropertyValue("--panel")) > 340 ? 700 : 340;
addEventListener("beforeprint", () => draw(schemes.light, onPaper));
addEventListener("afterprint", onScreen);

const source = document.getElementById("datatables").textContent;
const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
const { default: DataTable, set_or_remove_dark_class } = await import(address);
URL.revokeObjectURL(address);
set_or_remove_dark_class(); // which follows the scheme from then on
for (const table of document.querySelectorAll("table.sortable")) {
  new DataTable(table, {
    autoWidth: false, info: false, paging: false, searching: false, order: [],
    layout: { topStart: null, topEnd: null, bottomStart: { buttons: [{ extend: "copy", title: "" }, "csv"] }, bottomEnd: null },
  });
}
document.documentElement.dataset.ready = "yes";
