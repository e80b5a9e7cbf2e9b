"use strict";

// Tables: a click on a column's name sorts by it, a second one the other way round.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = button.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[head.cellIndex].dataset.value;
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // no value: last
      const numbers = head.classList.contains("text")
        ? a.localeCompare(b, "en", { numeric: true })
        : Number(a) - Number(b);
      return down ? -numbers : numbers;
    });
    body.append(...rows);
  });
}

// Two pictures over one another: swipe with the slider or a finger, or blink.
for (const box of document.querySelectorAll(".compare")) {
  const find = (name) => box.querySelector(name);
  const [lower, upper, seam] = [".lower", ".upper", ".seam"].map(find);
  const [left, right, slider, blink] = [".left", ".right", "input", "button"].map(find);
  const names = [...box.querySelectorAll(".sides span")];
  const pictures = [...document.querySelectorAll("figure[id] .picture")];
  let timer = 0;

  for (const [select, chosen] of [[left, box.dataset.left], [right, box.dataset.right]]) {
    for (const picture of pictures) {
      const choice = new Option(picture.alt, picture.closest("figure").id);
      choice.selected = choice.value === chosen;
      select.add(choice);
    }
    select.addEventListener("change", show);
  }
  slider.addEventListener("input", swipe);
  blink.addEventListener("click", () => (timer ? stop() : start()));
  const stage = find(".stage");
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const place = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - place.left)) / place.width;
    swipe();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);

  function show() {
    for (const [image, select, name] of [
      [upper, left, names[0]],
      [lower, right, names[1]],
    ]) {
      const picture = document.getElementById(select.value).querySelector(".picture");
      image.src = picture.src;
      image.alt = picture.alt;
      name.textContent = picture.alt;
    }
  }

  function swipe() {
    if (timer) stop();
    upper.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    seam.style.left = `${slider.value}%`;
  }

  function start() {
    const turn = () => {
      upper.hidden = !upper.hidden;
      names[0].classList.toggle("off", upper.hidden);
      names[1].classList.toggle("off", !upper.hidden);
    };
    upper.style.clipPath = "none";
    seam.hidden = true;
    timer = setInterval(turn, 700);
    blink.textContent = "Stop blinking";
    turn();
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    upper.hidden = seam.hidden = false;
    for (const name of names) name.classList.remove("off");
    blink.textContent = "Blink";
    swipe();
  }

  if (pictures.length > 1) {
    box.hidden = false;
    show();
    swipe();
  }
}

// What is folded away is printed all the same.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
