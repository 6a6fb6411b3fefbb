"""Which nodes go when the inode table is over its bound.

A hand goes round the ring of directories.  One that was used since the hand last passed gets a second chance; of any
other the children go that nobody needs: no children of their own, no lookups of the kernel, no hold.  What had some go
is no longer complete: its listing is read again when it is next asked for.  Files that only the kernel keeps are told
to the caller, who asks it to forget them; once it has, a later round takes them.  Directories are left for the kernel
to forget by itself: one that it forgets on demand would no longer be the path of a process that works in it.

The children of a held directory all stay: a listing is being read from them, or put into them.

Bounds: a round ends when it has freed nothing, or found only what the kernel keeps and told enough of it.  What graves
take counts; where they are over an eighth of the target they go, and with them the numbers of gone nodes.  Threads:
none of its own; the caller's lock guards the tree.
"""

from libc.stdint cimport uint64_t

from jindopy._ext.nodetree cimport Grave, Node, Tree, tree_retire, tree_unlink

cdef enum:
    GRAVES_SHARE = 8
    GRAVES_BYTES_MIN = 64 << 10  # 2,000 numbers: even a table without room remembers what it just let go


cdef size_t tree_trim(Tree* tree, size_t target_bytes, uint64_t* asked, size_t ask_max) noexcept nogil:
    cdef Node* node
    cdef size_t count = 0
    cdef size_t fruitless = 0  # directories since anything changed
    cdef size_t before
    cdef bint worked
    while tree.memory_bytes > target_bytes and tree.hand != NULL and fruitless < tree.dir_count:
        node = tree.hand
        tree.hand = node.dir.next_dir
        if node.holds > (1 if node == tree.root else 0):
            fruitless += 1
            continue
        if node.dir.used:
            node.dir.used = False
            fruitless = 0
            continue
        before = tree.count
        count = _empty(tree, node, target_bytes, asked, count, ask_max)
        worked = tree.count < before
        fruitless = 0 if worked else fruitless + 1
        if ask_max and count == ask_max and not worked:
            break  # enough for the kernel to do; the hand stays where the next call goes on
        if worked and tree.grave_slots * sizeof(Grave) > max(target_bytes // GRAVES_SHARE, <size_t> GRAVES_BYTES_MIN):
            tree_retire(tree)
    return count


# Take what can go of a directory; returns how many the kernel has now to be asked for.
cdef size_t _empty(
    Tree* tree, Node* directory, size_t target_bytes, uint64_t* asked, size_t count, size_t ask_max
) noexcept nogil:
    cdef Node* node = directory.dir.first
    cdef Node* next_node
    while node != NULL and tree.memory_bytes > target_bytes:
        next_node = node.next
        if node.holds == 0 and (node.dir == NULL or node.dir.first == NULL):
            if node.lookups == 0:
                directory.dir.complete = False
                tree_unlink(tree, node)
            elif node.dir == NULL and not node.asked_back and count < ask_max:
                node.asked_back = True
                asked[count] = node.nodeid
                count += 1
        node = next_node
    return count
