// Takes the page anew and swaps what is live in it. Holds still while somebody selects text.
(() => {
  const note = document.getElementById("refresh");
  let times = 0;
  const refresh = async () => {
    if (document.hidden || String(getSelection())) return;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.getElementById("live").replaceWith(fresh.getElementById("live"));
      document.title = fresh.title;
      document.body.classList.remove("lost");
      times += 1;
      note.dataset.times = times;
      note.textContent = "Refreshed every five seconds.";
    } catch {
      document.body.classList.add("lost");
      note.textContent = "The gate does not answer: this is what it said last.";
    }
  };
  note.textContent = "Refreshed every five seconds.";
  setInterval(refresh, 5000);
})();
