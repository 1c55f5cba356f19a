/* Names and focus for controls of the theme that lack them. */
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field[aria-label]")) {
    button.setAttribute("aria-label", button.innerText.replace(/\s+/g, " ").trim() || "Search");
  }
  for (const summary of document.querySelectorAll(".bd-sidebar-primary summary")) {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${link ? link.textContent.trim() : "this section"}`);
  }
  for (const summary of document.querySelectorAll("details.hide summary[aria-label]")) {
    summary.removeAttribute("aria-label"); // its text says more
  }
  for (const box of document.querySelectorAll(".pst-scrollable-table-container, .formula")) {
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", box.classList.contains("formula") ? "Formula" : "Table");
  }
});
