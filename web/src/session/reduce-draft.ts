/** What a batch of frames changes of a session's state. */
import type { Item, Prompt, SessionState, Turn } from "./state";

/** A state being changed: collections are copied at their first change, so that a batch copies each once. */
export class Draft {
  now: SessionState;
  private items: Map<string, Item> | undefined;
  private order: string[] | undefined;

  constructor(state: SessionState) {
    this.now = state;
  }

  set(patch: Partial<SessionState>): void {
    this.now = { ...this.now, ...patch };
  }

  put(item: Item): void {
    const items = this.ownItems();
    if (!items.has(item.key)) this.ownOrder().push(item.key);
    items.set(item.key, item);
  }

  remove(key: string): void {
    if (!this.now.items.has(key)) return;
    this.ownItems().delete(key);
    const order = this.ownOrder();
    const at = order.lastIndexOf(key);
    if (at >= 0) order.splice(at, 1);
  }

  putPrompt(prompt: Prompt): void {
    this.set({ prompts: new Map(this.now.prompts).set(prompt.id, prompt) });
  }

  changePrompt(id: string, patch: Partial<Prompt>): void {
    const prompt = this.now.prompts.get(id);
    if (prompt) this.putPrompt({ ...prompt, ...patch });
  }

  putTurn(turn: Turn): void {
    const isNew = !this.now.turns.has(turn.id);
    this.set({
      turns: new Map(this.now.turns).set(turn.id, turn),
      ...(isNew ? { turnOrder: [...this.now.turnOrder, turn.id] } : {}),
    });
  }

  changeTurn(id: string, patch: Partial<Turn>): void {
    const turn = this.now.turns.get(id);
    if (turn) this.putTurn({ ...turn, ...patch });
  }

  finish(): SessionState {
    return this.now;
  }

  private ownItems(): Map<string, Item> {
    if (!this.items) {
      this.items = new Map(this.now.items);
      this.set({ items: this.items });
    }
    return this.items;
  }

  private ownOrder(): string[] {
    if (!this.order) {
      this.order = [...this.now.order];
      this.set({ order: this.order });
    }
    return this.order;
  }
}
