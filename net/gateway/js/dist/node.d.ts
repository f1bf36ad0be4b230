import { type Database, type Options, type Store } from "./index.js";
export interface NodeOptions extends Options {
    /** Where the local data are kept; made if it does not exist. One process at a time may use it. */
    directory: string;
}
/** As open of @anabranch/client, with the local data in files. */
export declare function open({ directory, ...options }: NodeOptions): Promise<Database>;
/** Opens the files of a directory. Rejects with a StorageError if another process has them, or they are damaged. */
export declare function fileStore(directory: string): Promise<Store>;
