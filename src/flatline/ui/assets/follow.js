// Hears of what is stored while the page is open.

const AGAIN_MS = 3000;

/**
 * Listens to a stream of events while the page can be seen: a browser opens few connections to one
 * server, and each page that listens takes one of them.
 *
 * `changed` is given what stands for the store's contents, `say` a word for what goes on and, where
 * there is more to say, a sentence.
 */
function follow(address, changed, say) {
  let source = null;
  let over = false;
  const close = () => {
    source?.close();
    source = null;
  };
  const open = () => {
    if (source || over || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("open", () => say("live"));
    source.addEventListener("changed", (event) => {
      say("live");
      changed(JSON.parse(event.data));
    });
    source.addEventListener("trouble", (event) => say("trouble", JSON.parse(event.data)));
    source.addEventListener("error", () => {
      say("lost");
      if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      close();
      setTimeout(open, AGAIN_MS);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
  return {
    end() {
      over = true;
      close();
    },
  };
}

const SAYINGS = {
  live: "Live",
  lost: "Connection lost; trying again",
  held: "New figures wait while you select",
};

/** Shows what goes on, and says it to those who cannot see it, once each time that it changes. */
function tellState(element, state, words = SAYINGS[state]) {
  element.dataset.state = state;
  if (element.textContent !== words) element.textContent = words;
}

/** The page as the server would give it now. */
async function ask(address) {
  const answer = await fetch(address);
  if (!answer.ok) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}
